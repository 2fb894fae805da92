"""A stand-in for `vllm serve` with knobs for faults; the tests run it as a program.

Knobs come in the environment variable FAKE_ENGINE as JSON, per model through the profile's `env`:
load_s (0.05), load_until (this file exists), never_ready, start_exit (status), start_line (printed
before that), ignore_sigterm,
core (True: a child that calls setsid, as vLLM's EngineCore), die_after_requests, token_s (0.0),
tokens (5), flood (lines printed at start), die_in_health_after (503 from then on),
wedge_after_requests (those after it hang, and no gauge moves), core_obeys (it ends on SIGTERM, as
vLLM's does), worker (the core has a child that calls setsid too and never obeys), watch_core (the
server ends with 0 when its core dies, as vLLM's), lose_sigterm (while it loads, as vLLM does),
prefill_s (the whole server is busy so long before the first token), stop_s (what its end takes),
flood_per_s (lines, for ever), long_line_bytes, binary_bytes (of noise, printed at start).

With FAKE_DEVICE in the environment it holds memory of that device and records what it does
(tests/faults/stand_in/fake_device.py), and knobs/MODEL there is read at each start as well.
"""

import argparse
import asyncio
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from aiohttp import web

WORKER = "import os, signal, time; os.setsid(); signal.signal(15, signal.SIG_IGN); time.sleep(9999)"
CORE = """
import os, signal, subprocess, sys, time
os.setsid()
signal.signal(15, signal.SIG_DFL if "obeys" in sys.argv else signal.SIG_IGN)
if "worker" in sys.argv:
    program = [sys.executable, "-ISc", sys.argv[2], "fake-engine-worker", sys.argv[3]]
    subprocess.Popen(program, close_fds=False)
time.sleep(9999)
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fake-vllm")
    parser.add_argument("verb", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--port", type=int)
    parser.add_argument("--host")
    parser.add_argument("--uds")
    parser.add_argument("--served-model-name", nargs="+", default=[])
    for flag in ("gpu-memory-utilization", "max-model-len", "max-num-seqs", "dtype", "seed"):
        parser.add_argument(f"--{flag}")
    parser.add_argument("--max-num-batched-tokens")
    parser.add_argument("--kv-cache-memory-bytes")
    parser.add_argument("--enforce-eager", action="store_true")
    return parser.parse_args()


class Engine:
    def __init__(self, args: argparse.Namespace, knobs: dict[str, Any], use: Any) -> None:
        self.args = args
        self.knobs = knobs
        self.use = use
        self.requests = 0
        self.healths = 0
        self.running = 0
        self.generated = 0

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/health", self.health)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1/completions", self.chat)
        return app

    async def health(self, _: web.Request) -> web.Response:
        self.healths += 1
        dead = self.healths > int(self.knobs.get("die_in_health_after", 1 << 60))
        return web.Response(status=503 if dead else 200)

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            text=f'vllm:num_requests_running{{engine="0"}} {self.running}\n'
            f'vllm:num_requests_waiting{{engine="0"}} 0.0\n'
            f'vllm:generation_tokens_total{{engine="0"}} {self.generated}\n'
        )

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        names = self.args.served_model_name
        if names and body.get("model") not in names:
            return web.json_response({"error": {"message": f"no model {body}"}}, status=404)
        self.requests += 1
        if self.requests > self.knobs.get("die_after_requests", 1 << 60):
            os._exit(int(self.knobs.get("die_with", 1)))
        if self.requests > self.knobs.get("wedge_after_requests", 1 << 60):
            await asyncio.sleep(9999)  # a step that hangs: no gauge moves, /health says 200
        self.running += 1
        if self.use is not None and self.requests == 1:
            self.use.asked()
        try:
            if body.get("stream"):
                return await self.stream(request, body)
            await self.work(body)
            return web.json_response(
                {
                    "object": "chat.completion",
                    "model": body["model"],
                    "engine_pid": os.getpid(),
                    "choices": [{"message": {"role": "assistant", "content": "hello"}}],
                }
            )
        finally:
            self.running -= 1

    def tokens(self, body: dict[str, Any]) -> int:
        return int(self.knobs.get("tokens", body.get("max_tokens", 5)))

    async def work(self, body: dict[str, Any]) -> None:
        self.prefill()
        for _ in range(self.tokens(body)):
            await asyncio.sleep(float(self.knobs.get("token_s", 0.0)))
            self.generated += 1

    def prefill(self) -> None:
        time.sleep(float(self.knobs.get("prefill_s", 0.0)))  # blocks everything, as a long step

    async def stream(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        self.prefill()
        for number in range(self.tokens(body)):
            await asyncio.sleep(float(self.knobs.get("token_s", 0.0)))
            self.generated += 1
            chunk = {"model": body["model"], "choices": [{"delta": {"content": str(number)}}]}
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response


async def serve(engine: Engine) -> None:
    use = engine.use
    runner = web.AppRunner(engine.application(), handler_cancellation=True)
    await runner.setup()
    if engine.args.uds:
        await web.UnixSite(runner, engine.args.uds).start()
    else:
        await web.TCPSite(runner, "127.0.0.1", engine.args.port).start()
    stop = asyncio.Event()
    if not engine.knobs.get("ignore_sigterm"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    if use is not None:
        use.loaded()
    print("INFO 11-21 08:00:00 [launcher.py:1] Application startup complete.", flush=True)
    await stop.wait()
    if use is not None:
        use.end()
    await asyncio.sleep(float(engine.knobs.get("stop_s", 0.0)))
    await runner.cleanup()


def make_noise(knobs: dict[str, Any]) -> None:
    for number in range(int(knobs.get("flood", 0))):
        print(f"line {number} of a flood", flush=False)
    sys.stdout.flush()
    os.write(1, b"x" * int(knobs.get("long_line_bytes", 0)) + b"\n")
    os.write(1, bytes(range(256)) * (int(knobs.get("binary_bytes", 0)) // 256) + b"\n")
    per_s = int(knobs.get("flood_per_s", 0))

    def flood() -> None:
        while True:
            for number in range(per_s // 10):
                print(f"INFO 11-21 08:00:00 [loop.py:1] line {number} of an endless flood")
            sys.stdout.flush()
            time.sleep(0.1)

    if per_s:
        threading.Thread(target=flood, daemon=True).start()


def start_core(args: argparse.Namespace, knobs: dict[str, Any], use: Any) -> Any:
    wanted = (("obeys", "core_obeys"), ("worker", "worker"))
    words = [word for word, knob in wanted if knobs.get(knob)]
    core = subprocess.Popen(
        [sys.executable, "-ISc", CORE, "fake-engine-core", WORKER, args.uds or "", *words],
        pass_fds=use.inherited if use is not None else (),
    )

    def watch() -> None:
        core.wait()
        os._exit(0)

    if knobs.get("watch_core"):
        threading.Thread(target=watch, daemon=True).start()
    return core


def device_of(args: argparse.Namespace, knobs: dict[str, Any]) -> Any:
    """Return how this engine uses the stand-in for a device, and take the knobs there."""
    if "FAKE_DEVICE" not in os.environ:
        return None
    fake_device: Any = importlib.import_module("fake_device")
    device = fake_device.of_environment()
    name = args.served_model_name[0]
    with suppress(FileNotFoundError):
        knobs |= json.loads((device.root / "knobs" / name).read_text())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    use = fake_device.Use(
        device, name, tuple(f"gpu{n}" for n in visible.split(",")) if visible else ("cpu",)
    )
    use.begin()
    return use


def main() -> int:
    knobs = json.loads(os.environ.get("FAKE_ENGINE", "{}"))
    args = arguments()
    use = device_of(args, knobs)
    if knobs.get("ignore_sigterm") or knobs.get("lose_sigterm"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    refusal = use.allocate(float(args.gpu_memory_utilization or 0), os.getpid()) if use else None
    core = start_core(args, knobs, use) if knobs.get("core", True) else None
    make_noise(knobs)
    print("INFO 11-21 08:00:00 [core.py:1] Starting to load model", flush=True)
    if knobs.get("never_ready"):
        time.sleep(9999)
    time.sleep(float(knobs.get("load_s", 0.05)))
    while "load_until" in knobs and not os.path.exists(knobs["load_until"]):  # noqa: PTH110 - starts sooner
        time.sleep(0.02)
    if refusal is not None or "start_exit" in knobs:
        default = "ValueError: the fake engine was told to fail"
        print(refusal or knobs.get("start_line", default), flush=True)
        if core is not None:
            core.kill()
        return int(knobs.get("start_exit", 1))
    asyncio.run(serve(Engine(args, knobs, use)))
    if use is not None:
        use.ended()
    if core is not None:
        core.kill()  # with `watch_core` this ends the server too
    return 0


if __name__ == "__main__":
    sys.exit(main())
