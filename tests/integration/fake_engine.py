"""A stand-in for `vllm serve` with knobs for faults; the tests run it as a program.

Knobs come in the environment variable FAKE_ENGINE as JSON, per model through the profile's `env`:
load_s (0.05), never_ready, start_exit (status), start_line (printed before that), ignore_sigterm,
core (True: a child that calls setsid, as vLLM's EngineCore), die_after_requests, token_s (0.0),
tokens (5), flood (lines printed at start), die_in_health_after (503 from then on),
wedge_after_requests (those after it hang, and no gauge moves).
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

from aiohttp import web

CORE = "import os, signal, time; os.setsid(); signal.signal(15, signal.SIG_IGN); time.sleep(9999)"


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
    def __init__(self, args: argparse.Namespace, knobs: dict[str, Any]) -> None:
        self.args = args
        self.knobs = knobs
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
        self.requests += 1
        if self.requests > self.knobs.get("die_after_requests", 1 << 60):
            os._exit(int(self.knobs.get("die_with", 1)))
        if self.requests > self.knobs.get("wedge_after_requests", 1 << 60):
            await asyncio.sleep(9999)  # a step that hangs: no gauge moves, /health says 200
        self.running += 1
        try:
            if body.get("stream"):
                return await self.stream(request, body)
            await self.work()
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

    async def work(self) -> None:
        for _ in range(int(self.knobs.get("tokens", 5))):
            await asyncio.sleep(float(self.knobs.get("token_s", 0.0)))
            self.generated += 1

    async def stream(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number in range(int(self.knobs.get("tokens", 5))):
            await asyncio.sleep(float(self.knobs.get("token_s", 0.0)))
            self.generated += 1
            chunk = {"model": body["model"], "choices": [{"delta": {"content": str(number)}}]}
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response


async def serve(engine: Engine) -> None:
    runner = web.AppRunner(engine.application(), handler_cancellation=True)
    await runner.setup()
    if engine.args.uds:
        await web.UnixSite(runner, engine.args.uds).start()
    else:
        await web.TCPSite(runner, "127.0.0.1", engine.args.port).start()
    print("INFO 11-21 08:00:00 [launcher.py:1] Application startup complete.", flush=True)
    stop = asyncio.Event()
    if not engine.knobs.get("ignore_sigterm"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await runner.cleanup()


def main() -> int:
    knobs = json.loads(os.environ.get("FAKE_ENGINE", "{}"))
    args = arguments()
    if knobs.get("ignore_sigterm"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    core = None
    if knobs.get("core", True):
        core = subprocess.Popen([sys.executable, "-c", CORE, "fake-engine-core", args.uds or ""])
    for number in range(int(knobs.get("flood", 0))):
        print(f"line {number} of a flood", flush=False)
    print("INFO 11-21 08:00:00 [core.py:1] Starting to load model", flush=True)
    if knobs.get("never_ready"):
        time.sleep(9999)
    time.sleep(float(knobs.get("load_s", 0.05)))
    if "start_exit" in knobs:
        print(knobs.get("start_line", "ValueError: the fake engine was told to fail"), flush=True)
        if core is not None:
            core.kill()
        return int(knobs["start_exit"])
    asyncio.run(serve(Engine(args, knobs)))
    if core is not None:
        core.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
