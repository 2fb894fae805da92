"""What is told of decisions: by `gpuserve events`, also afterwards."""

import http.server
import json
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from tests.e2e.instance import until
from tests.integration.instance.conftest import Box


def test_why_an_engine_was_restarted_is_told_in_one_command_also_after_the_end(box: Box) -> None:
    box.start()
    os.kill(box.instance.model("coder")["pid"], signal.SIGKILL)
    until(lambda: box.instance.model("coder")["restarts"] == 1, "it is restarted")
    box.instance.must("wait", "--timeout", "20")
    box.instance.must("stop", "general")
    box.instance.must("down")
    assert box.instance.gpuserve("status").returncode == 3

    rows = [json.loads(line) for line in box.instance.must("events", "--json").splitlines()]
    coder = [row for row in rows if row.get("model") == "coder"]
    moves = [(row.get("before"), row.get("after")) for row in coder]
    assert ("Ready", "Unready") in moves
    (failed,) = (row for row in coder if row["event"] == "backing_off")
    assert failed["why"] == "killed by SIGKILL"
    assert failed["figures"]["failures"] == 1
    assert "next_try_s" in failed["figures"]
    assert [row["event"] for row in coder].count("recovered") == 1
    (asked,) = (
        row for row in rows if row.get("cause") == "operator" and row["after"] == "Draining"
    )
    assert asked["figures"]["uid"] == os.getuid()

    told = box.instance.must("events", "coder", "-n", "100")
    assert "killed by SIGKILL" in told
    assert "general" not in told
    assert box.instance.must("events", "-n", "1").count("\n") == 1
    assert box.instance.must("events", "--since", "1h").count("\n") == len(rows)


def test_events_of_nobody_are_refused_with_the_names(running: Box) -> None:
    refused = running.instance.gpuserve("events", "codr")
    assert refused.returncode == 2
    assert "coder" in refused.stderr
    assert running.instance.must("events", "coder-alias") == running.instance.must(
        "events", "coder"
    )


def test_events_without_an_instance_say_so(box: Box) -> None:
    done = box.instance.gpuserve("events")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


class Hook(http.server.BaseHTTPRequestHandler):
    """A webhook that answers with the next of `statuses`, and the last one for ever."""

    statuses: ClassVar[list[int]] = [200]
    bodies: ClassVar[list[dict[str, Any]]] = []
    tokens: ClassVar[list[str | None]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.tokens.append(self.headers["authorization"])
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == 200:
            self.bodies.append(json.loads(body))
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[str]:
    Hook.statuses, Hook.bodies, Hook.tokens = [200], [], []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/SECRET"
    server.shutdown()
    thread.join()
    server.server_close()


def test_who_wants_to_know_is_told_by_command_and_webhook(box: Box, hook: str) -> None:
    told = box.root / "told"
    (box.root / "token").write_text("s3cret\n")
    box.knobs = {"coder": {"start_exit": 2, "start_line": "vllm: error: no such flag"}}
    box.extra = (
        f"[[on_event]]\ncommand = ['sh', '-c', 'cat >> {told}; echo $GPUSERVE_MODEL >> {told}']\n"
        f"[[on_event]]\nurl = '{hook}'\nbearer_token_file = 'token'\nevents = ['failed', 'ready']\n"
    )
    Hook.statuses = [503, 200]  # it is tried again
    box.start(wait=False)
    until(lambda: {b["event"] for b in Hook.bodies} == {"failed", "ready"}, "the webhook has both")
    until(lambda: told.exists() and "coder" in told.read_text(), "the command has run")
    failed = next(body for body in Hook.bodies if body["event"] == "failed")
    assert failed["model"] == "coder"
    assert "no such flag" in failed["text"]
    assert failed["instance"] == str(box.instance.run_dir)
    assert Hook.tokens[0] == "Bearer s3cret"
    body, name = told.read_text().rsplit("}", 1)
    assert (json.loads(body + "}")["event"], name.strip()) == ("failed", "coder")


def test_nobody_who_cannot_be_told_is_in_the_way(box: Box, hook: str) -> None:
    box.knobs = {"coder": {"start_exit": 2}}
    box.extra = (
        "[[on_event]]\ncommand = ['sleep', '600']\ntimeout_s = 0.2\nevents = ['failed']\n"
        "[[on_event]]\ncommand = ['/nowhere/page']\nevents = ['failed']\n"
        f"[[on_event]]\nurl = '{hook}'\nevents = ['failed']\n"
    )
    Hook.statuses = [404]
    box.start(wait=False)
    assert box.instance.gpuserve("wait", "--timeout", "60").returncode == 1
    until(lambda: box.instance.model("general")["ready"], "the other model serves")
    until(lambda: box.instance.must("events").count("was not told") == 2, "it is recorded")
    shown = box.instance.must("events")
    assert "HTTP status 404" in shown
    assert "/nowhere/page" in shown
    assert "SECRET" not in shown
    assert "SECRET" not in (box.instance.run_dir / "events.jsonl").read_text()
    checked = box.instance.gpuserve("check", str(box.instance.profile))
    assert checked.returncode == 0
    assert "cannot execute /nowhere/page" in checked.stderr
    box.end()
    box.must_be_gone()


def test_a_start_that_cannot_work_is_given_up_at_once_with_the_engines_figures(box: Box) -> None:
    line = (
        "ValueError: To serve at least one request with the models's max seq len (4096), (4.00 GiB "
        "KV cache is needed, which is larger than the available KV cache memory (1.50 GiB). Based "
        "on the available memory, the estimated maximum model length is 1536."
    )
    box.knobs = {"coder": {"start_exit": 1, "start_line": line}}
    box.start(wait=False)
    assert box.instance.gpuserve("wait", "--timeout", "60").returncode == 1
    coder = box.instance.model("coder")
    assert (coder["state"], coder["cause"], coder["starts"]) == (
        "Failed",
        "kv_cache_too_small",
        1,
    )
    assert "max_model_len" in coder["reason"]
    (failed,) = (
        row
        for row in map(json.loads, box.instance.must("events", "coder", "--json").splitlines())
        if row["event"] == "failed"
    )
    assert failed["figures"]["longest_tokens"] == 1536


def test_an_engine_that_ends_again_and_again_after_it_was_ready_is_given_up(box: Box) -> None:
    """Each time it serves long enough to start from zero, so only the hour counts."""
    box.engine = {"hourly_restart_limit": 2, "restart_limit": 9}
    box.start()
    for _ in range(2):
        box.instance.must("wait", "--timeout", "30")
        os.kill(box.instance.model("coder")["pid"], signal.SIGKILL)
        until(lambda: not box.instance.model("coder")["ready"], "its end is seen")
    until(lambda: box.instance.model("coder")["state"] == "Failed", "it is given up")
    assert "hourly_restart_limit" in box.instance.model("coder")["reason"]
    assert "crash loop" in box.instance.must("events", "coder")
    box.instance.must("start", "coder")
    os.kill(box.instance.model("coder")["pid"], signal.SIGKILL)
    until(lambda: box.instance.model("coder")["restarts"] >= 1, "the operator's word resets it")


def test_a_state_file_that_is_damaged_is_said_and_the_service_goes_on(running: Box) -> None:
    running.instance.must("stop", "general")
    state = running.instance.run_dir / "state.json"
    state.write_bytes(state.read_bytes()[:40])
    os.kill(running.pid_of("gpuserve.controller"), signal.SIGKILL)
    running.instance.must("wait", "--timeout", "30")
    assert running.chat("coder").status == 200
    assert any("state.json" in fault for fault in running.instance.status()["faults"])
    assert "state lost" in running.instance.must("events")
