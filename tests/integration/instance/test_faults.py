"""What kills, hangs or lies. After each fault: nothing orphaned, service back or said why not."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest

from gpuserve.rundir import RunDir
from tests.e2e.instance import until
from tests.integration.instance.conftest import Box, free_port


def ready(box: Box, name: str) -> bool:
    return bool(box.instance.model(name)["ready"])


def test_a_killed_engine_is_restarted_and_the_other_serves(running: Box) -> None:
    before = running.instance.model("coder")
    core = running.core_of("coder")
    other = running.instance.model("general")["pid"]
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: running.instance.model("coder")["restarts"] == 1, "it is restarted")
    until(lambda: ready(running, "coder"), "it is ready again")
    assert running.chat("coder").status == 200
    assert not core.is_running(), "the core of the first engine is gone"
    assert running.instance.model("general")["pid"] == other


def test_a_killed_engine_core_leaves_nothing(running: Box) -> None:
    """vLLM's server ends by itself when its core dies; the stand-in's does not, and is killed."""
    core = running.core_of("coder")
    pid = running.instance.model("coder")["pid"]
    core.kill()
    os.kill(pid, signal.SIGKILL)
    until(lambda: running.instance.model("coder")["restarts"] == 1, "it is restarted")
    until(lambda: ready(running, "coder"), "it is ready again")


def test_a_killed_shim_orphans_nothing(running: Box) -> None:
    before = running.instance.model("coder")
    tree = running.instance.processes_of("coder")
    os.kill(before["shim_pid"], signal.SIGKILL)
    until(lambda: running.instance.model("coder")["restarts"] == 1, "it is restarted")
    until(lambda: ready(running, "coder"), "it is ready again")
    assert [p for p in tree if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []


def test_a_killed_controller_is_replaced_and_engines_keep_their_pids(running: Box) -> None:
    pids = [m["pid"] for m in running.instance.status()["models"]]
    with running.instance.traffic("coder") as answers:
        os.kill(running.pid_of("gpuserve.controller"), signal.SIGKILL)
        until(
            lambda: (
                [m["pid"] for m in running.instance.status()["models"]] == pids
                and all(m["ready"] for m in running.instance.status()["models"])
            ),
            "a new controller has adopted both",
        )
    assert set(answers) == {"200"}


def test_a_killed_router_is_replaced_without_closing_the_port(running: Box) -> None:
    worker = next(
        p for p in running.processes() if p.cmdline()[-1] == "1" and "router" in str(p.cmdline())
    )
    refused = 0
    worker.kill()
    for _ in range(50):
        try:
            with socket.create_connection(("127.0.0.1", running.instance.port), timeout=5):
                pass
        except ConnectionRefusedError:
            refused += 1
    assert refused == 0
    until(lambda: _answers(running), "a new worker answers")


def test_a_killed_keeper_takes_everything_with_it(running: Box) -> None:
    assert running.up is not None
    running.up.kill()
    running.up.communicate(timeout=20)
    running.up = None
    until(lambda: not running.processes(), "every process has ended", timeout_s=30)
    assert running.instance.gpuserve("status").returncode == 3
    running.start()
    assert running.chat().status == 200


def test_a_hung_controller_is_replaced_and_engines_keep_their_pids(running: Box) -> None:
    """The watch kills it after its heartbeat has been stale for 20 s."""
    pids = [m["pid"] for m in running.instance.status()["models"]]
    hung = running.pid_of("gpuserve.controller")
    os.kill(hung, signal.SIGSTOP)
    until(lambda: not psutil.pid_exists(hung), "the watch has killed it", timeout_s=60)
    until(
        lambda: [m["pid"] for m in running.instance.status()["models"]] == pids,
        "a new controller has adopted both",
    )


def test_an_engine_that_exits_with_a_bad_flag_fails_at_once_with_its_words(box: Box) -> None:
    words = "vllm: error: unrecognized arguments: --swap-space 4"
    box.knobs = {"coder": {"start_exit": 2, "start_line": words}}
    box.start(wait=False)
    done = box.instance.gpuserve("wait", "--timeout", "60")
    assert done.returncode == 1
    assert words in done.stderr
    coder = box.instance.model("coder")
    assert (coder["state"], coder["last_error"]) == ("Failed", words)
    until(lambda: ready(box, "general"), "the other one serves")
    assert box.chat("general").status == 200
    assert box.chat("coder").status == 503
    assert box.instance.gpuserve("status").returncode == 1


def test_an_engine_that_always_exits_0_fails_after_the_limit(box: Box) -> None:
    box.knobs = {"coder": {"start_exit": 0, "start_line": "goodbye"}}
    box.start(wait=False)
    until(lambda: _state(box, "coder") == "Failed", "the limit is reached")
    coder = box.instance.model("coder")
    assert coder["failures"] == 3
    assert "status 0 without being asked" in coder["reason"]
    until(lambda: ready(box, "general"), "the other one serves")


def test_start_after_failed_tries_again(box: Box) -> None:
    marker = box.root / "fixed"
    wrapper = box.root / "vllm"
    wrapper.write_text(f"#!/bin/sh\n[ -e {marker} ] || exit 2\n" + wrapper.read_text())
    box.start(wait=False)
    until(lambda: _state(box, "coder") == "Failed", "it has failed")
    marker.touch()
    box.instance.must("start", "coder")
    box.instance.must("start", "general")
    assert box.chat("coder").status == 200


def test_an_engine_that_never_gets_ready_is_given_up_after_its_patience(box: Box) -> None:
    box.knobs = {"coder": {"never_ready": True}}
    box.more = {"coder": "start_timeout_s = 1.0\nrestart_limit = 1"}
    box.start(wait=False)
    until(lambda: _state(box, "coder") == "Failed", "its patience is over")
    assert "start_timeout_s" in box.instance.model("coder")["reason"]
    until(lambda: ready(box, "general"), "the other one serves")


def test_an_engine_that_ignores_sigterm_is_killed(box: Box) -> None:
    box.knobs = {"coder": {"ignore_sigterm": True}}
    box.engine = {"stop_timeout_s": 0.5}
    box.start()
    tree = box.instance.processes_of("coder")
    box.instance.must("stop", "coder")
    assert [p for p in tree if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []


def test_loading_answers_503_with_retry_after_and_why(box: Box) -> None:
    box.knobs = {"coder": {"never_ready": True}}
    box.start(wait=False)
    until(lambda: _state(box, "coder") == "Starting", "it loads")
    answer = box.chat("coder")
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert "Starting" in answer.json()["error"]["message"]


def test_an_engine_that_dies_of_requests_is_restarted(box: Box) -> None:
    box.knobs = {"coder": {"die_after_requests": 0, "die_with": 0}}
    box.start()
    answer = box.chat("coder")
    assert answer.status in (502, 503)
    until(lambda: box.instance.model("coder")["restarts"] >= 1, "it is restarted")


def test_an_engine_that_says_it_is_dead_is_taken_out_of_the_routes_and_replaced(box: Box) -> None:
    box.knobs = {"coder": {"die_in_health_after": 3}}
    box.engine = {"liveness_timeout_s": 1.0}
    box.start()
    until(lambda: _state(box, "coder") == "Unready", "its word is believed")
    assert box.chat("coder").status == 503
    assert box.chat("general").status == 200
    until(lambda: box.instance.model("coder")["restarts"] >= 1, "it is replaced")


def test_a_second_up_says_who_runs(running: Box) -> None:
    done = running.instance.gpuserve("up", str(running.instance.profile))
    assert done.returncode == 69
    assert running.up is not None
    assert f"pid {running.up.pid}" in done.stderr
    assert running.chat().status == 200


def test_a_port_in_use_is_said_with_who_holds_it(box: Box) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", box.instance.port))
        other.listen()
        box.write()
        done = box.instance.gpuserve("up", str(box.instance.profile))
    assert done.returncode == 69
    assert f"(pid {os.getpid()})" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (box.instance.run_dir / "instance.json").exists()


def test_a_missing_vllm_is_said_with_what_was_looked_for(box: Box) -> None:
    box.engine = {"vllm": "/nowhere/vllm"}
    box.write()
    done = box.instance.gpuserve("up", str(box.instance.profile))
    assert done.returncode == 69
    assert "/nowhere/vllm" in done.stderr


@pytest.mark.parametrize("fault", ["missing", "empty"])
def test_a_directory_that_holds_no_model_is_a_problem_of_the_profile(box: Box, fault: str) -> None:
    config = box.root / "model" / "config.json"
    config.unlink()
    if fault == "missing":
        config.parent.rmdir()
    box.write()
    done = box.instance.gpuserve("up", str(box.instance.profile))
    assert done.returncode == 78
    assert str(box.root / "model") in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_directory_too_long_for_a_socket_works_all_the_same(box: Box) -> None:
    from gpuserve.rundir import RunDir

    long = box.root / ("a" * 90)
    box.instance = type(box.instance)(long, box.instance.profile, box.instance.port)
    assert RunDir(long).sockets != long
    box.start()
    assert box.chat().status == 200
    box.end()
    box.must_be_gone()
    left = [path for path in RunDir(long).sockets.rglob("*") if path.is_socket()]
    assert left == []


def test_a_flood_of_lines_reaches_a_bounded_log(box: Box) -> None:
    box.knobs = {"coder": {"flood": 50_000}}
    box.start()
    until(lambda: box.instance.model("coder")["dropped_log_lines"] > 0, "lines were dropped")
    assert (box.instance.run_dir / "logs" / "engines" / "coder.log").stat().st_size < 11 << 20


def test_a_shim_that_is_told_by_nobody_ends_with_its_keeper(box: Box) -> None:
    """A stopped controller tells nobody: the kernel tells the shims."""
    box.start()
    controller = psutil.Process(box.pid_of("gpuserve.controller"))
    controller.suspend()
    until(lambda: controller.status() == psutil.STATUS_STOPPED, "it has stopped")
    assert box.up is not None
    box.up.kill()
    box.up.wait(timeout=20)
    until(
        lambda: [p for p in box.processes() if p.pid != controller.pid] == [],
        "everything but the controller has ended",
        timeout_s=30,
    )
    with contextlib.suppress(psutil.NoSuchProcess):
        controller.kill()  # it holds the pipe of `up`
    box.up.communicate(timeout=20)
    box.up = None


def _state(box: Box, name: str) -> str:
    try:
        return str(box.instance.model(name)["state"])
    except AssertionError:  # not up yet
        return "none"


def _answers(box: Box) -> bool:
    try:
        return bool(box.chat().status == 200)
    except OSError:
        return False


def test_an_engine_whose_step_hangs_is_replaced_though_health_says_ok(box: Box) -> None:
    box.knobs = {"coder": {"wedge_after_requests": 1}}
    box.engine = {"liveness_timeout_s": 2.0}
    box.start()
    assert box.chat("coder").status == 200
    hung = threading.Thread(target=lambda: box.chat("coder"), daemon=True)
    hung.start()
    until(lambda: box.instance.model("coder")["restarts"] == 1, "it is replaced")
    hung.join(timeout=30)


def test_an_engine_that_answers_nothing_is_busy_not_dead(box: Box) -> None:
    box.start()
    engine = box.instance.processes_of("coder")[0]
    begun = box.instance.model("coder")["pid"]
    asked = threading.Thread(target=lambda: box.chat("coder"), daemon=True)
    engine.suspend()
    asked.start()
    try:
        deadline = time.monotonic() + 12  # two probes, each with its own 5 s
        while time.monotonic() < deadline:
            assert _state(box, "coder") == "Ready"
    finally:
        engine.resume()
    asked.join(timeout=30)
    assert box.instance.model("coder")["pid"] == begun


def _router(box: Box) -> psutil.Process | None:
    """Return the worker that serves, None while there is none."""
    words = ["gpuserve.router", str(box.instance.run_dir), "1"]
    for process in box.processes():
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if process.cmdline()[-3:] == words:
                return process
    return None


def test_a_hung_router_is_replaced(running: Box) -> None:
    until(lambda: _answers(running), "the worker answers")
    worker = _router(running)
    assert worker is not None
    worker.suspend()
    until(lambda: not worker.is_running(), "the controller has killed it", timeout_s=60)
    until(lambda: _answers(running), "a new worker answers")


def test_a_router_that_hangs_before_it_serves_is_replaced(running: Box) -> None:
    first = _router(running)
    assert first is not None
    first.kill()
    control = RunDir(running.instance.run_dir).router_socket(1)
    control.unlink(missing_ok=True)
    until(lambda: (found := _router(running)) is not None and found != first, "another begins")
    worker = _router(running)
    assert worker is not None
    worker.suspend()
    assert not control.exists()  # imports take longer than to find it
    until(lambda: not worker.is_running(), "the controller has killed it", timeout_s=60)
    until(lambda: _answers(running), "a new worker answers")


def test_a_stranger_on_an_engines_port_is_named_and_never_taken_for_the_engine(box: Box) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        box.more = {"coder": f"port = {port}"}
        box.write()
        done = box.instance.gpuserve("up", str(box.instance.profile))
    assert done.returncode == 69
    assert f"(pid {os.getpid()})" in done.stderr
    assert "the port of coder" in done.stderr


def test_a_port_that_is_taken_between_two_starts_is_said(box: Box) -> None:
    port = free_port()
    box.more = {"coder": f"port = {port}"}
    box.engine = {"restart_limit": 1}
    box.start()
    assert box.instance.model("coder")["port"] == port
    box.instance.must("stop", "coder")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        done = box.instance.gpuserve("start", "coder")
    assert done.returncode == 1
    assert f"(pid {os.getpid()})" in done.stderr


def test_children_that_the_shell_had_before_are_left_alone(box: Box) -> None:
    box.write()
    command = f"sleep 600 & exec {sys.executable} -m gpuserve --run-dir {box.instance.run_dir} up"
    box.up = subprocess.Popen(
        ["/bin/sh", "-c", f"{command} {box.instance.profile}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    box.instance.must("wait", "--timeout", "60")
    (sleeper,) = (p for p in psutil.Process(box.up.pid).children() if "sleep" in p.cmdline())
    shim = box.instance.model("coder")["shim_pid"]
    os.kill(shim, signal.SIGKILL)  # has the controller look for strays
    until(lambda: ready(box, "coder") and box.instance.model("coder")["restarts"] == 1, "back")
    try:
        assert sleeper.is_running()
        assert sleeper.status() != psutil.STATUS_ZOMBIE
    finally:
        sleeper.kill()


def test_everything_killed_at_once_leaves_nothing_after_the_next_up(box: Box) -> None:
    box.start()
    core = box.core_of("coder")
    until(lambda: (box.instance.run_dir / "families.json").exists(), "families are noted")
    words = ("supervisord", "controller", "router", "shim", "watch", "fake_engine.py")
    named = [p for p in box.processes() if any(w in " ".join(p.cmdline()) for w in words)]
    for act in (psutil.Process.suspend, psutil.Process.kill):  # stopped, none sees another die
        for process in named:
            with contextlib.suppress(psutil.NoSuchProcess):
                act(process)
    assert core.is_running(), "its core calls setsid and ignores SIGTERM"
    box.start()
    assert not core.is_running() or core.status() == psutil.STATUS_ZOMBIE
    assert box.chat("coder").status == 200
    said = box.end()
    (line,) = (line for line in said.splitlines() if line.startswith("ended what"))
    assert str(core.pid) in line


def test_a_signal_in_the_first_moment_leaves_nothing(box: Box) -> None:
    for delay_s in (0.2, 0.4, 0.7, 1.2):
        box.start(wait=False)
        assert box.up is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            box.up.wait(delay_s)
        box.up.send_signal(signal.SIGTERM)
        box.up.communicate(timeout=40)
        box.up = None
        box.must_be_gone()


def test_a_program_that_says_why_in_its_own_way_is_quoted(box: Box) -> None:
    box.knobs = {"coder": {"start_exit": 3, "start_line": "no licence for this card"}}
    box.engine = {"restart_limit": 1}
    box.start(wait=False)
    until(lambda: _state(box, "coder") == "Failed", "it has failed")
    assert box.instance.model("coder")["last_error"] == "no licence for this card"


def test_an_engine_that_was_killed_has_no_last_error(running: Box) -> None:
    os.kill(running.instance.model("coder")["pid"], signal.SIGKILL)
    until(lambda: running.instance.model("coder")["restarts"] == 1, "it is restarted")
    assert running.instance.model("coder")["last_error"] is None
