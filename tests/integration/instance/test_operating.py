"""The commands of an operator, on a healthy instance."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.e2e.instance import until
from tests.integration.instance.conftest import Box, free_port

# Stands for a server elsewhere: passes TCP connections on to an engine's Unix socket.
RELAY = """
import asyncio, sys
async def copy(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def relay(reader, writer):
    there = await asyncio.open_unix_connection(sys.argv[2])
    await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))
async def main():
    await (await asyncio.start_server(relay, "127.0.0.1", int(sys.argv[1]))).serve_forever()
asyncio.run(main())
"""


def test_up_serves_both_models_behind_one_endpoint_and_leaves_nothing_behind(box: Box) -> None:
    box.start()
    code = box.chat(prompt="Write a Python function that merges two sorted lists.")
    prose = box.chat(prompt="Tell me a story about the sea.")
    assert code.headers["x-gpuserve-model"] == "coder"
    assert code.headers["x-gpuserve-route"] == "code"
    assert prose.headers["x-gpuserve-model"] == "general"
    assert box.chat("coder-alias").headers["x-gpuserve-route"] == "explicit"
    said = box.end()
    assert "coder: Starting -> Ready" in said
    box.must_be_gone()


def test_engines_start_one_after_the_other(box: Box) -> None:
    box.knobs = {"coder": {"load_s": 0.5}, "general": {"load_s": 0.5}}
    box.start()
    said = [line.partition(" (")[0] for line in box.end().splitlines()]
    assert said.index("coder: Starting -> Ready") < said.index("general: Queued -> Starting")


def test_status_is_the_contracts(running: Box) -> None:
    status = running.instance.status()
    assert status["router"] == {"url": running.instance.url, "workers": 1}
    coder = status["models"][0]
    assert (coder["name"], coder["state"], coder["ready"]) == ("coder", "Ready", True)
    assert coder["port"] is None
    assert Path(coder["socket"]).is_socket()
    assert coder["gpus"] == []
    assert coder["restarts"] == 0
    assert coder["reason"] is None
    assert coder["last_error"] is None
    assert coder["since_s"] >= 0
    assert set(coder["memory"]) == {"predicted", "actual"}
    assert running.instance.gpuserve("status").returncode == 0


def test_every_process_says_what_it_is(running: Box) -> None:
    words = [" ".join(p.cmdline()) for p in running.processes()]
    for word in ("supervisord", "controller", "router", "shim"):
        assert any(word in line for line in words), word
    assert running.up is not None
    assert running.pid_of("supervisord") == running.up.pid, "`up` is the keeper"


def test_restart_gives_a_new_process_and_the_other_model_serves_meanwhile(running: Box) -> None:
    before = running.instance.model("coder")
    with running.instance.traffic("general") as answers:
        running.instance.must("restart", "coder")
    after = running.instance.model("coder")
    assert after["ready"]
    assert after["pid"] != before["pid"]
    assert set(answers) == {"200"}


def test_stop_stays_stopped_over_a_controller_and_start_brings_back(running: Box) -> None:
    running.instance.must("stop", "general")
    assert running.instance.model("general")["state"] == "Stopped"
    assert running.chat("general").status == 503
    assert running.instance.gpuserve("status").returncode == 0, "what is stopped need not be ready"
    running.instance.must("wait", "--timeout", "10")
    _kill_controller(running)
    assert running.instance.model("general")["state"] == "Stopped"
    running.instance.must("start", "general")
    assert running.chat("general").status == 200


def test_stop_stays_stopped_over_down_and_up(running: Box) -> None:
    running.instance.must("stop", "general")
    running.instance.must("down")
    running.start()
    assert running.instance.model("general")["state"] == "Stopped"
    assert running.instance.model("coder")["state"] == "Ready"


def test_drain_finishes_what_is_in_flight_and_refuses_what_is_new(box: Box) -> None:
    box.knobs = {"coder": {"tokens": 20, "token_s": 0.1}}
    box.start()
    answers: list[Any] = []
    stream = threading.Thread(target=lambda: answers.append(box.chat("coder", stream=True)))
    stream.start()
    until(lambda: _running(box, "coder") == 1, "the stream runs in the engine")
    box.instance.must("drain", "coder")
    stream.join(timeout=20)
    assert answers[0].status == 200
    assert answers[0].body.endswith(b"data: [DONE]\n\n")
    refused = box.chat("coder")
    assert refused.status == 503
    assert "retry-after" in refused.headers
    assert box.instance.model("coder")["state"] == "Draining"
    _kill_controller(box)
    assert box.instance.model("coder")["state"] == "Draining", "drained, and to stay so"
    box.instance.must("start", "coder")
    assert box.chat("coder").status == 200


def test_down_drains_streams_before_it_stops(box: Box) -> None:
    box.knobs = {"coder": {"tokens": 15, "token_s": 0.1}}
    box.start()
    answers: list[Any] = []
    stream = threading.Thread(target=lambda: answers.append(box.chat("coder", stream=True)))
    stream.start()
    until(lambda: _running(box, "coder") == 1, "the stream runs in the engine")
    box.instance.must("down")
    stream.join(timeout=20)
    assert answers[0].body.endswith(b"data: [DONE]\n\n")
    box.must_be_gone()


def test_down_now_does_not_wait_for_streams(box: Box) -> None:
    box.knobs = {"coder": {"tokens": 10_000, "token_s": 0.1}}
    box.engine = {"drain_timeout_s": 600.0}
    box.start()
    threading.Thread(target=lambda: box.chat("coder", stream=True), daemon=True).start()
    until(lambda: _running(box, "coder") == 1, "the stream runs in the engine")
    begun_s = time.monotonic()
    box.instance.must("down", "--now")
    assert time.monotonic() - begun_s < 300, "far less than the drain would take"
    box.must_be_gone()


def test_sigterm_drains_and_exits_0(running: Box) -> None:
    assert running.up is not None
    running.up.send_signal(signal.SIGTERM)
    running.up.communicate(timeout=40)
    assert running.up.returncode == 0
    running.up = None
    running.must_be_gone()


def test_sighup_changes_nothing(running: Box) -> None:
    pids = sorted(p.pid for p in running.processes())
    assert running.up is not None
    running.up.send_signal(signal.SIGHUP)
    running.instance.must("status")
    assert sorted(p.pid for p in running.processes()) == pids


def test_detach_returns_and_wait_waits(box: Box) -> None:
    box.write()
    box.instance.must("up", str(box.instance.profile), "--detach")
    box.instance.must("wait", "--timeout", "60")
    assert box.chat().status == 200
    assert json.loads(box.instance.must("status", "--json"))["models"][0]["ready"]
    box.instance.must("down")
    box.must_be_gone()


def test_logs_are_the_engines_own(running: Box) -> None:
    text = running.instance.must("logs", "coder-alias", "-n", "5")
    assert "Application startup complete" in text
    unknown = running.instance.gpuserve("logs", "nobody")
    assert unknown.returncode == 2
    assert "coder" in unknown.stderr


def test_logs_follow_until_the_end(running: Box) -> None:
    words = [sys.executable, "-m", "gpuserve", "--run-dir", str(running.instance.run_dir)]
    follow = subprocess.Popen(
        [*words, "logs", "-f", "-n", "0", "coder"], stdout=subprocess.PIPE, text=True
    )
    running.instance.must("restart", "coder")
    running.instance.must("down")
    text, _ = follow.communicate(timeout=20)
    assert "Application startup complete" in text
    assert follow.returncode == 0


def test_a_command_for_an_unknown_model_names_the_known(running: Box) -> None:
    done = running.instance.gpuserve("restart", "nobody")
    assert done.returncode == 2
    assert "coder" in done.stderr


def test_a_command_that_cannot_be_done_now_says_so_and_ends(running: Box) -> None:
    running.instance.must("stop", "general")
    done = running.instance.gpuserve("drain", "general")
    assert done.returncode == 1
    assert "general is Stopped" in done.stderr


def test_a_restart_goes_on_under_a_new_controller(box: Box) -> None:
    box.knobs = {"coder": {"tokens": 30, "token_s": 0.1}}
    box.start()
    before = box.instance.model("coder")["pid"]
    stream = threading.Thread(target=lambda: box.chat("coder", stream=True), daemon=True)
    stream.start()
    until(lambda: _running(box, "coder") == 1, "the stream runs in the engine")
    box.instance.must("restart", "coder", "--no-wait")
    _kill_controller(box)
    until(lambda: box.instance.model("coder")["pid"] not in (before, None), "it is restarted")
    stream.join(timeout=20)


def test_a_held_engine_that_dies_stays_down_until_it_is_started(running: Box) -> None:
    import os

    running.instance.must("drain", "coder")
    os.kill(running.instance.model("coder")["pid"], signal.SIGKILL)
    until(lambda: running.instance.model("coder")["state"] == "Stopped", "it stays down")
    running.instance.must("start", "coder")
    assert running.chat("coder").status == 200


def test_an_alias_may_hold_a_slash(box: Box) -> None:
    box.aliases = {"coder": "deep/coder"}
    box.start()
    assert box.chat("deep/coder").status == 200
    box.instance.must("stop", "deep/coder")
    assert box.instance.model("coder")["state"] == "Stopped"


def test_a_server_elsewhere_is_routed_to_while_it_can_be_reached(box: Box) -> None:
    port = free_port()
    box.extra = f'[[upstream]]\nname = "far"\nurl = "http://127.0.0.1:{port}"\nmodels = ["m3"]\n'
    box.start()
    until(lambda: not box.instance.status()["upstreams"][0]["reachable"], "nobody listens")
    assert box.chat("m3").status == 503
    socket_path = box.instance.model("coder")["socket"]
    relay = subprocess.Popen(
        [sys.executable, "-c", RELAY, str(port), socket_path], stdout=subprocess.PIPE, text=True
    )
    try:
        until(lambda: box.instance.status()["upstreams"][0]["reachable"], "somebody listens")
        # The engine behind the relay does not know that name, and says so in its own words.
        until(lambda: b"no model {'model': 'm3'" in box.chat("m3").body, "it is routed to")
    finally:
        relay.kill()
        relay.communicate()


def test_without_an_instance_commands_exit_3(box: Box) -> None:
    for words in (["status"], ["down"], ["restart", "coder"], ["stop", "coder"]):
        done = box.instance.gpuserve(*words)
        assert done.returncode == 3, words
        assert "nothing runs in" in done.stderr


def _running(box: Box, name: str) -> int:
    """Return how many requests the engine itself says are running."""
    import http.client
    import socket

    connection = http.client.HTTPConnection("engine")
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(box.instance.model(name)["socket"])
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    (line,) = (row for row in text.splitlines() if row.startswith("vllm:num_requests_running"))
    return int(float(line.split()[-1]))


def _kill_controller(box: Box) -> None:
    import os

    pid = box.pid_of("gpuserve.controller")
    os.kill(pid, signal.SIGKILL)
    until(
        lambda: any(
            "gpuserve.controller" in " ".join(p.cmdline()) and p.pid != pid for p in box.processes()
        ),
        "a new controller runs",
    )
