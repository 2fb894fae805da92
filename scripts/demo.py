"""The demonstration that `scripts/demo` runs once its environment is there.

It uses gpuserve as a user would: the commands, the endpoint through the official `openai`
client, and signals. What it claims at the end it has looked up in /proc and on the disk.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import openai

from scripts.leftovers import Traces

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / ".demo"
RUN_DIR = DEMO / "run"
STARTED_S = float(os.environ.get("GPUSERVE_STARTED_S", time.time()))
WAIT_S = 900  # for a GPU box that loads 30 GiB of weights; tiny models take about a minute
NOTICE_S = 30  # for the controller to see that an engine is gone

CODE_PROMPT = "Fix this:\n```python\ndef add(a, b):\n    retrun a + b\n```"
GENERAL_PROMPT = "What should I see on a weekend in Lisbon?"


class DemoFailed(Exception):
    """A step did not do what it shows; the message says which."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description="gpuserve at work.")
    parser.add_argument("--keep", action="store_true", help="leave the instance running")
    parser.add_argument("--profile", type=Path, help="your own instead of profiles/cpu-demo.toml")
    parser.add_argument("--vllm", type=Path, help="the vLLM executable that profile should use")
    args = parser.parse_args()
    if args.vllm and not args.profile:
        parser.error("--vllm goes with --profile; the CPU demonstration has a vLLM of its own")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        profile = prepare(args.profile, args.vllm)
        show(profile, keep=args.keep)
    except DemoFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def prepare(profile: Path | None, vllm: Path | None) -> Path:
    """Return the profile to run, with everything that it needs in place."""
    DEMO.mkdir(exist_ok=True)
    if profile is not None:
        if vllm is not None:
            put_first_on_path(vllm)
        return profile.absolute()
    run(ROOT / "scripts" / "make-venv-vllm")
    models = [ROOT / ".venv-vllm/bin/python", ROOT / "scripts/tiny_models.py", DEMO / "models"]
    run(*models)
    return with_a_free_port(ROOT / "profiles" / "cpu-demo.toml")


def put_first_on_path(vllm: Path) -> None:
    """Make *vllm* what profiles that say nothing, or `vllm = "vllm"`, will find."""
    if not os.access(vllm, os.X_OK):
        raise DemoFailed(f"--vllm {vllm}: no executable file")
    link = DEMO / "bin" / "vllm"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(vllm.absolute())
    os.environ["PATH"] = f"{link.parent}:{os.environ['PATH']}"


def with_a_free_port(profile: Path) -> Path:
    """Return *profile*, or a copy in .demo with another port when its own is taken.

    .demo lies as deep as profiles/, so that relative paths mean the same in the copy.
    """
    text = profile.read_text(encoding="utf-8")
    match = re.search(r"^port = (\d+)", text, re.MULTILINE)
    if match is None:
        raise DemoFailed(f"{profile} states no port")
    if is_free(int(match[1])):
        return profile
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    copy = DEMO / profile.name
    copy.write_text(text[: match.start()] + f"port = {port}" + text[match.end() :], "utf-8")
    say(f"port {match[1]} is taken: {copy.relative_to(ROOT)} is the profile with port {port}")
    return copy


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def show(profile: Path, *, keep: bool) -> None:
    """Check, start, ask, kill, recover, stop; raises DemoFailed where one of them does not."""
    if gpuserve("status", "--json", quiet=True).returncode in (0, 1):
        say("an instance of an earlier demonstration runs here; stopping it")
        must("down")
    name = str(profile.relative_to(ROOT) if ROOT in profile.parents else profile)
    must("check", name)
    try:
        must("up", name, "--detach")
        must("wait", "--timeout", str(WAIT_S))
        url = status()["router"]["url"]
        say(f"code and prose to {url}/v1, model=auto, through the openai client")
        if profile.name == "cpu-demo.toml":
            say("(the weights are random, so the answers mean nothing)")
        ask(url, CODE_PROMPT, route="code")
        ask(url, GENERAL_PROMPT, route="general", stream=True)
        ask(url, CODE_PROMPT, route="code", stream=True)
        ask(url, GENERAL_PROMPT, route="general")
        kill_and_recover(url)
        must("status")
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt):
            explain()
        stop("--now")
        raise
    if keep:
        print(curl_line(url))
        say(f"left running; stop it with: .venv/bin/gpuserve --run-dir {RUN_DIR} down")
        return
    traces = Traces.of(RUN_DIR)
    must("down")
    left = traces.left(port=int(url.rpartition(":")[2]))
    if left:
        raise DemoFailed("left behind: " + "; ".join(left))
    say(f"nothing left: {len(traces.processes)} processes gone, no socket, no lock, port closed")


def ask(url: str, prompt: str, *, route: str, stream: bool = False) -> None:
    """Send *prompt* as `auto` and print who answered and why; it must be that *route*."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)
    began = time.monotonic()
    try:
        raw = client.chat.completions.with_raw_response.create(
            model="auto",
            messages=[{"role": "user", "content": prompt}],
            max_tokens=24,
            stream=stream,
        )
        answer: Any = raw.parse()
        if stream:
            pieces = [c.choices[0].delta.content or "" for c in answer if c.choices]
            text, how = "".join(pieces), f"streamed in {len(pieces)} chunks"
        else:
            text, how = answer.choices[0].message.content or "", "in one piece"
    except openai.OpenAIError as error:
        raise DemoFailed(f"the endpoint answered {error!r}") from error
    headers = raw.headers
    print(f"\n  prompt  {_short(prompt)}")
    print(
        f"  model   {headers.get('x-gpuserve-model')}   route {headers.get('x-gpuserve-route')}"
        f"   because {headers.get('x-gpuserve-reason')}"
    )
    print(f"  answer  {_short(text)}   ({how}, {time.monotonic() - began:.2f} s)\n", flush=True)
    if headers.get("x-gpuserve-route") != route:
        raise DemoFailed(f"expected the route {route}, got {headers.get('x-gpuserve-route')}")


def kill_and_recover(url: str) -> None:
    """SIGKILL the first engine; the others must go on, and it must come back."""
    before = status()["models"]
    victim, others = before[0], before[1:]
    say(f"SIGKILL to {victim['name']}, pid {victim['pid']}")
    os.kill(victim["pid"], signal.SIGKILL)
    began = time.monotonic()
    while (now := model_status(victim["name"]))["ready"] and now["pid"] == victim["pid"]:
        if time.monotonic() - began > NOTICE_S:
            raise DemoFailed(f"{victim['name']} is dead and status does not say so")
        time.sleep(0.2)
    say(f"{victim['name']}: {now['state']}: {now['reason'] or now['last_error']}")
    for other in others:
        if not model_status(other["name"])["ready"]:
            raise DemoFailed(f"{other['name']} went down with {victim['name']}")
    if others:
        ask(url, GENERAL_PROMPT, route="general")
    must("wait", "--timeout", str(WAIT_S))
    after = model_status(victim["name"])
    if after["restarts"] <= victim["restarts"] or after["pid"] == victim["pid"]:
        raise DemoFailed(f"{victim['name']} was not restarted: {after}")
    say(f"{victim['name']} is back, pid {after['pid']}, after {time.monotonic() - began:.0f} s")


def explain() -> None:
    """Print what an operator would look at when something went wrong."""
    shown = gpuserve("status", "--json", quiet=True)
    if shown.returncode != 1:
        say(f"the logs are in {RUN_DIR / 'logs'}")
        return
    gpuserve("status")
    for model in json.loads(shown.stdout)["models"]:
        if not model["ready"]:
            gpuserve("logs", model["name"], "-n", "30")


def stop(*how: str) -> None:
    """Stop what is there, undisturbed by a second Ctrl-C."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    gpuserve("down", *how)
    signal.signal(signal.SIGINT, handler)


def status() -> Any:
    return json.loads(gpuserve("status", "--json", quiet=True).stdout)


def model_status(name: str) -> Any:
    return next(model for model in status()["models"] if model["name"] == name)


def must(*words: str) -> None:
    """Run a command of gpuserve in sight of the user; raises DemoFailed unless it exits 0."""
    say(f"$ gpuserve --run-dir {RUN_DIR.relative_to(ROOT)} {' '.join(words)}")
    code = gpuserve(*words).returncode
    if code:
        raise DemoFailed(f"`gpuserve {words[0]}` ended with exit status {code}")


def gpuserve(*words: str, quiet: bool = False) -> subprocess.CompletedProcess[str]:
    pipe = subprocess.PIPE if quiet else None
    executable = Path(sys.executable).with_name("gpuserve")
    argv = [str(executable), "--run-dir", str(RUN_DIR.relative_to(ROOT)), *words]
    return subprocess.run(argv, stdout=pipe, stderr=pipe, text=True, check=False, cwd=ROOT)


def run(*argv: Path) -> None:
    code = subprocess.run(argv, check=False).returncode
    if code:
        raise DemoFailed(f"{argv[-1].relative_to(ROOT)} ended with exit status {code}")


def curl_line(url: str) -> str:
    message = {"role": "user", "content": "Write a Python function that prints hello"}
    body = json.dumps({"model": "auto", "messages": [message], "max_tokens": 16})
    return f"curl -si {url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'"


def say(line: str) -> None:
    print(f"[{time.time() - STARTED_S:4.0f}s] {line}", file=sys.stderr, flush=True)


def _short(text: str) -> str:
    width = min(shutil.get_terminal_size().columns, 100) - 24
    return repr(text if len(text) <= width else text[:width] + "…")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
