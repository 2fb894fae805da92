"""What goes wrong around an instance while it runs: clock, disk, descriptors, names, noise."""

import http.client
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from gpuserve.shim.log import BACKUPS, MAX_FILE_BYTES, MAX_LINES_PER_S
from gpuserve.shim.run import OOM_SCORE_ADJ
from tests.e2e.instance import until
from tests.faults.conftest import TREE, Lab
from tests.integration.instance.conftest import free_port

# Every process of the instance takes its wall clock from here: an offset in a file.
CLOCK = """
import os, time
_time, _time_ns, _path = time.time, time.time_ns, {path!r}
def _offset():
    try:
        return float(open(_path).read())
    except (OSError, ValueError):
        return 0.0
time.time = lambda: _time() + _offset()
time.time_ns = lambda: _time_ns() + int(_offset() * 1e9)
"""
DAY_S = 86_400.0


def test_a_clock_that_jumps_restarts_nothing_and_cuts_nothing(lab: Lab) -> None:
    offset = lab.box.root / "offset"
    site = lab.box.root / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(CLOCK.format(path=str(offset)))
    paths = (str(site), lab.device.environment["PYTHONPATH"])
    lab.box.environment = lab.device.environment | {"PYTHONPATH": os.pathsep.join(paths)}
    lab.box.knobs["coder"] = TREE | {"tokens": 40, "token_s": 0.1}
    lab.box.engine = {"liveness_timeout_s": 2.0, "drain_timeout_s": 60.0}
    lab.box.start()
    trees = {name: lab.tree(name) for name in lab.box.names}
    bodies: list[bytes] = []
    asked = threading.Thread(target=lambda: bodies.append(lab.box.chat("coder", stream=True).body))
    asked.start()
    for jump_s in (DAY_S, -365 * DAY_S, 3600.0):
        offset.write_text(str(jump_s))
        before = lab.model("general")["since_s"]
        until(partial(_older, lab, before + 1), "time goes on")
        assert lab.model("general")["since_s"] < before + 60
        assert lab.box.chat("general").status == 200
    asked.join(timeout=60)
    assert bodies[0].endswith(b"data: [DONE]\n\n")
    lab.program("gpuserve.controller").kill()
    offset.write_text(str(-DAY_S))
    lab.until_ready()
    assert 0 <= lab.model("coder")["since_s"] < 3600, "an adopted engine's age is its own"
    assert {name: lab.tree(name) for name in lab.box.names} == trees
    lab.box.instance.must("restart", "coder")
    lab.box.instance.must("down")
    lab.box.end_if_running()
    lab.box.must_be_gone()


def _older(lab: Lab, than_s: float) -> bool:
    return bool(lab.model("general")["since_s"] > than_s)


@pytest.fixture
def small_disk(lab: Lab) -> Iterator[Path]:
    """A run directory on a file system of 4 MiB."""
    place = lab.box.root / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount a small file system here: {done.stderr.strip()}")
    instance = lab.box.instance
    lab.box.instance = type(instance)(place / "run", instance.profile, instance.port)
    yield place
    lab.box.instance.gpuserve("down", "--now")
    lab.box.end_if_running()
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_log_that_fills_the_disk_stops_nothing_and_goes_on_when_there_is_room(
    lab: Lab, small_disk: Path
) -> None:
    """The engine writes more than the disk holds, though less than its log may take."""
    lab.box.knobs["coder"] = TREE | {"flood_per_s": 3000}
    lab.box.start()
    fill = small_disk / "fill"
    with fill.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
    tree = lab.tree("coder")
    dropped = lab.model("coder")["dropped_log_lines"]
    until(lambda: lab.model("coder")["dropped_log_lines"] > dropped + 1000, "lines are dropped")
    assert lab.box.chat("coder").status == 200
    os.kill(lab.model("general")["pid"], 9)
    until(lab.says(lambda s: s["models"][1]["restarts"] == 1), "restarts work")
    lab.until_ready()
    assert lab.tree("coder") == tree
    fill.unlink()
    log = small_disk / "run" / "logs" / "engines" / "coder.log"
    until(lambda: b"lines were dropped here" in log.read_bytes()[-200_000:], "it says what is lost")
    assert lab.box.chat("coder").status == 200


def test_a_router_without_descriptors_serves_again_once_they_come_back(lab: Lab) -> None:
    lab.box.start()
    worker = lab.worker()
    open_now = worker.num_fds()
    worker.rlimit(resource.RLIMIT_NOFILE, (open_now + 20, open_now + 20))
    idle = []
    for _ in range(60):
        client = socket.create_connection(("127.0.0.1", lab.box.instance.port), timeout=5)
        client.sendall(b"GET /healthz HTTP/1.1\r\n")
        idle.append(client)
    until(lambda: worker.num_fds() >= open_now + 19, "it has none left")
    trees = {name: lab.tree(name) for name in lab.box.names}
    for client in idle:
        client.close()
    until(lambda: _serves(lab), "it serves again")
    assert lab.worker() == worker, "the same process"
    assert {name: lab.tree(name) for name in lab.box.names} == trees
    log = lab.box.instance.run_dir / "logs" / "router_01.log"
    assert log.stat().st_size < 1 << 20, "it does not fill the disk with it either"


@pytest.mark.slow
def test_a_controller_without_descriptors_is_replaced_or_goes_on(lab: Lab) -> None:
    lab.box.start()
    trees = {name: lab.tree(name) for name in lab.box.names}
    controller = lab.program("gpuserve.controller")
    open_now = controller.num_fds()
    controller.rlimit(resource.RLIMIT_NOFILE, (open_now, open_now))
    done = lab.box.instance.gpuserve("restart", "general")  # needs pidfds, pipes, sockets
    assert "Traceback" not in done.stderr
    lab.until_ready()
    assert lab.tree("coder") == trees["coder"]
    assert lab.box.chat("general").status == 200
    if controller.is_running():
        controller.kill()
    lab.until_ready()
    lab.box.instance.must("restart", "general")


def _serves(lab: Lab) -> bool:
    try:
        return bool(lab.box.chat("coder").status == 200)
    except (OSError, http.client.HTTPException):
        return False


RESOLVER = """
import socket, sys
silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind((sys.argv[1], 53))
print("bound", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_names_that_nobody_resolves_hold_up_nothing(lab: Lab) -> None:
    """A resolver that is silent blocks a thread for 10 s and more per question."""
    address = "127.66.0.1"
    resolver = subprocess.Popen(
        [sys.executable, "-c", RESOLVER, address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert resolver.stdin is not None
    assert resolver.stdout is not None
    conf, hosts = lab.box.root / "resolv.conf", lab.box.root / "nsswitch.conf"
    conf.write_text(f"nameserver {address}\noptions timeout:30 attempts:5\n")
    hosts.write_text("hosts: files dns\n")
    switch = "/etc/nsswitch.conf"
    bind = (
        f"mount --bind {conf} /etc/resolv.conf && "
        f'{{ [ ! -e {switch} ] || mount --bind {hosts} {switch}; }} && exec "$@"'
    )
    try:
        probe = subprocess.run(
            ["unshare", "-m", "sh", "-c", bind, "sh", "true"], capture_output=True, check=False
        )
        if resolver.stdout.readline() != "bound\n" or probe.returncode != 0:
            pytest.skip("cannot stand in for a resolver here")
        lab.box.extra = "".join(
            f'[[upstream]]\nname = "far{n}"\nurl = "http://far{n}.example.test"\n'
            f'models = ["far-model-{n}"]\n'
            for n in range(12)
        )
        lab.box.prefix = ("unshare", "-m", "sh", "-c", bind, "sh")
        lab.box.start()
        until(
            lab.says(lambda s: not any(u["reachable"] for u in s["upstreams"])), "none is reached"
        )
        controller = lab.program("gpuserve.controller")
        for _ in range(4):
            lab.box.instance.must("restart", "general")
            assert lab.box.chat("coder").status == 200
            assert lab.box.chat("far-model-1").status == 503
        assert controller.is_running()
        assert controller.num_threads() < 40
        lab.box.instance.must("down")
        lab.box.end_if_running()
        lab.box.must_be_gone()
    finally:
        resolver.communicate(timeout=10)


def test_noise_of_every_kind_ends_in_a_bounded_log(lab: Lab) -> None:
    """A line of 10 MiB, binary, and thousands of lines a second, for longer than a moment."""
    noise = {"long_line_bytes": 10 << 20, "binary_bytes": 1 << 20, "flood_per_s": 8000}
    lab.box.knobs["coder"] = TREE | noise
    lab.box.start()
    shim = psutil.Process(lab.model("coder")["shim_pid"])
    begun = lab.model("coder")["dropped_log_lines"]
    until(
        lambda: lab.model("coder")["dropped_log_lines"] > begun + 2 * MAX_LINES_PER_S,
        "what is beyond the rate is dropped and counted",
    )
    assert lab.box.chat("coder").status == 200
    assert shim.memory_info().rss < 64 << 20
    logs = sorted((lab.box.instance.run_dir / "logs" / "engines").glob("coder.log*"))
    sizes = [log.stat().st_size for log in logs]
    assert len(sizes) <= 1 + BACKUPS
    assert max(sizes) <= MAX_FILE_BYTES
    assert b"bytes cut" in b"".join(log.read_bytes() for log in logs)
    shown = lab.box.instance.must("logs", "coder", "-n", "5")
    assert len(shown.splitlines()) >= 5
    lab.box.instance.must("stop", "coder")


def test_the_kernel_would_take_an_engine_before_its_supervisor(lab: Lab) -> None:
    """Under pressure of host memory the OOM killer picks by this."""
    lab.box.start()

    def score(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    assert lab.box.up is not None
    own = score(lab.box.up.pid)
    for role, process in lab.tree("coder").items():
        expected = own if role == "shim" else OOM_SCORE_ADJ
        assert score(process.pid) == expected, role
    assert score(lab.program("gpuserve.controller").pid) == own
    assert score(lab.worker().pid) == own


def test_a_start_waits_for_the_memory_of_the_host(lab: Lab) -> None:
    """The engine that was killed for memory must not be started into the same shortage."""
    lab.box.start()
    plan = lab.box.instance.run_dir / "plan.json"
    content = json.loads(plan.read_bytes())
    for launch in content["launches"]:
        if launch["name"] == "coder":
            launch["gate_needs"] = [1 << 50]
    plan.write_text(json.dumps(content))
    lab.program("gpuserve.controller").kill()
    until(lab.says(lambda s: s["models"][0]["pid"] is not None), "adopted")
    os.kill(lab.model("coder")["pid"], 9)
    until(
        lab.says(lambda s: "waits for memory on cpu" in (s["models"][0]["reason"] or "")), "waits"
    )
    assert lab.model("general")["ready"]
    assert lab.box.chat("general").status == 200


def test_a_port_that_is_stolen_between_two_starts_is_said_and_tried_again(lab: Lab) -> None:
    port = free_port()
    lab.box.more = {"coder": f"port = {port}"}
    lab.box.engine = {"restart_limit": 50}
    lab.box.start()
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        os.kill(lab.model("coder")["pid"], 9)
        _bind(thief, port)
        until(
            lab.says(lambda s: f"pid {os.getpid()}" in (s["models"][0]["reason"] or "")),
            "who has it is said",
        )
        assert lab.box.chat("coder").status == 503, "never the stranger's answer"
    lab.until_ready()
    assert lab.box.chat("coder").status == 200


def _bind(thief: socket.socket, port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            thief.bind(("127.0.0.1", port))
            thief.listen()
        except OSError:
            assert time.monotonic() < deadline, "the engine's port never came free"
            time.sleep(0.001)
        else:
            return
