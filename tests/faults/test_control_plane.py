"""Controller, routers and keeper killed, hung or replaced: engines keep their pids and serve."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import gpuserve
from gpuserve.machine.unixhttp import UnixConnection
from gpuserve.rundir import RunDir
from scripts.leftovers import is_alive
from scripts.traffic import judge
from tests.e2e.instance import until
from tests.faults.conftest import TREE, Lab, ended

TOKENS = 60
GENTLER = (signal.SIGTERM, signal.SIGSTOP)


class Streams:
    """Some streams at once, and how each of them ended."""

    def __init__(self, lab: Lab, count: int) -> None:
        self.ends: list[str] = []
        self._lab = lab
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        try:
            answer = self._lab.box.chat("coder", stream=True)
            kind, _ = judge(answer.status, answer.body.decode(), stream=True, tokens=TOKENS)
        except Exception as error:  # noqa: BLE001 - whatever it is, the stream was cut
            kind = f"cut: {error!r}"
        self.ends.append(kind)

    def join(self) -> list[str]:
        for thread in self._threads:
            thread.join(timeout=60)
        return self.ends


def in_flight(lab: Lab, slot: int) -> int:
    """Return how many requests that router process has going."""
    connection = UnixConnection(RunDir(lab.box.instance.run_dir).router_socket(slot), 5.0)
    try:
        connection.request("GET", "/upstreams")
        rows = json.loads(connection.getresponse().read())["upstreams"].values()
        return sum(int(row["in_flight"]) for row in rows)
    except OSError:
        return 0
    finally:
        connection.close()


def slow(lab: Lab) -> None:
    lab.box.knobs["coder"] = TREE | {"tokens": TOKENS, "token_s": 0.1}


def test_streams_through_the_surviving_router_are_not_cut(lab: Lab) -> None:
    slow(lab)
    lab.box.server = "workers = 2"
    lab.box.start()
    streams = []
    for slot, other in ((1, 2), (2, 1)):  # the kernel gives them to whoever is awake
        lab.worker(other).suspend()
        streams.append(Streams(lab, 4))
        until(lambda slot=slot: in_flight(lab, slot) == 4, "they run")  # type: ignore[misc]
        lab.worker(other).resume()
    lab.worker(1).kill()
    assert "ok" not in streams[0].join()
    assert streams[1].join() == ["ok"] * 4
    until(lambda: is_alive(lab.worker(1)), "it was replaced")


def controller_pid(lab: Lab) -> int:
    return int(lab.program("gpuserve.controller").pid)


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, *(pytest.param(n, marks=pytest.mark.slow) for n in GENTLER)],
)
def test_a_controller_that_goes_leaves_engines_and_streams_alone(
    lab: Lab, number: signal.Signals
) -> None:
    """Killed, asked to go (as for a new version), or hung: the next one adopts."""
    slow(lab)
    lab.box.start()
    trees = {name: lab.tree(name) for name in lab.box.names}
    before, slot = controller_pid(lab), lab.worker()
    with lab.box.instance.traffic("general") as answers:
        streams = Streams(lab, 3)
        until(lambda: in_flight(lab, 1) >= 3, "the streams run")
        os.kill(before, number)
        until(lambda: not psutil.pid_exists(before), "it is gone")
        until(lab.says(lambda s: all(m["ready"] for m in s["models"])), "the next has adopted")
        assert streams.join() == ["ok"] * 3
    assert set(answers) == {"200"}
    assert {name: lab.tree(name) for name in lab.box.names} == trees
    assert lab.worker() == slot, "the router neither"
    assert [m["restarts"] for m in lab.status()["models"]] == [0, 0]
    assert [m["starts"] for m in lab.status()["models"]] == [1, 1]


def test_an_upgrade_in_place_replaces_the_controller_and_nothing_else(lab: Lab) -> None:
    """A new version of the package is what the keeper starts next; it adopts."""
    library = lab.box.root / "library"
    shutil.copytree(Path(gpuserve.__file__).parent, library / "gpuserve")
    paths = (str(library), lab.device.environment["PYTHONPATH"])
    lab.box.environment = lab.device.environment | {"PYTHONPATH": os.pathsep.join(paths)}
    lab.box.start()
    trees = {name: lab.tree(name) for name in lab.box.names}
    (library / "gpuserve" / "__init__.py").write_text('__version__ = "9.9.9"\n')
    lab.program("gpuserve.controller").terminate()
    until(lab.says(lambda s: s["version"] == "9.9.9"), "the new version is in charge")
    lab.until_ready()
    assert {name: lab.tree(name) for name in lab.box.names} == trees
    assert lab.box.chat("coder").status == 200
    lab.box.instance.must("restart", "coder")
    assert lab.tree("coder") != trees["coder"], "and it can start engines"
    assert lab.tree("general") == trees["general"]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:200]), id="torn"),
        pytest.param(
            lambda path: path.write_text('{"of": "another version"}'),
            id="unknown",
            marks=pytest.mark.slow,
        ),
        pytest.param(lambda path: path.unlink(), id="gone", marks=pytest.mark.slow),
    ],
)
def test_a_plan_that_cannot_be_read_is_said_and_engines_go_on(
    lab: Lab, spoil: Callable[[Path], object]
) -> None:
    lab.box.start()
    trees = {name: lab.tree(name) for name in lab.box.names}
    plan = RunDir(lab.box.instance.run_dir).plan
    kept = plan.read_bytes()
    spoil(plan)
    lab.program("gpuserve.controller").kill()
    log = lab.box.instance.run_dir / "logs" / "controller.log"
    until(lambda: str(plan) in log.read_text(), "it says which file")
    assert "Traceback" not in log.read_text()
    shown = lab.box.instance.gpuserve("status")
    assert shown.returncode == 1
    assert str(plan) in shown.stderr
    assert lab.box.chat("coder").status == 200
    plan.write_bytes(kept)
    lab.until_ready()
    assert {name: lab.tree(name) for name in lab.box.names} == trees


def test_a_keeper_that_is_stopped_and_goes_on_changes_nothing(lab: Lab) -> None:
    lab.box.start()
    assert lab.box.up is not None
    keeper = psutil.Process(lab.box.up.pid)
    trees = {name: lab.tree(name) for name in lab.box.names}
    keeper.suspend()
    assert lab.box.chat("coder").status == 200
    assert lab.box.instance.gpuserve("status").returncode == 0
    keeper.resume()
    lab.box.instance.must("restart", "general")
    assert lab.tree("coder") == trees["coder"]


def test_an_instance_whose_keeper_hangs_can_be_ended(lab: Lab) -> None:
    lab.box.start()
    assert lab.box.up is not None
    keeper = psutil.Process(lab.box.up.pid)
    keeper.suspend()
    lab.box.instance.must("down", "--now")
    lab.box.up.communicate(timeout=30)
    lab.box.up = None
    lab.box.must_be_gone()


@pytest.mark.slow
def test_an_instance_whose_controller_hangs_can_be_ended(lab: Lab) -> None:
    lab.box.start()
    lab.program("gpuserve.controller").suspend()
    lab.box.instance.must("down")
    assert lab.box.up is not None
    lab.box.up.communicate(timeout=30)
    lab.box.up = None
    lab.box.must_be_gone()


def test_what_nobody_could_end_is_ended_with_the_instance(lab: Lab) -> None:
    """A shim is killed while no controller runs; `down` has only the keeper to ask."""
    lab.box.start()
    trees = [lab.tree(name) for name in lab.box.names]
    plan = RunDir(lab.box.instance.run_dir).plan
    plan.write_text("torn")
    lab.program("gpuserve.controller").kill()
    log = lab.box.instance.run_dir / "logs" / "controller.log"
    until(lambda: str(plan) in log.read_text(), "no controller can run")
    for role in ("server", "shim"):
        trees[0][role].kill()
    assert is_alive(trees[0]["worker"])
    lab.box.instance.must("down")
    lab.box.end_if_running()
    assert ended(process for tree in trees for process in tree.values())
    lab.box.must_be_gone()
    lab.box.start()


NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def test_as_the_first_process_of_a_container_it_ends_its_own_and_nobody_elses(lab: Lab) -> None:
    """There the keeper is given every orphan of the container, whoever's it was."""
    probe = subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"no namespaces here: {probe.stderr.decode()}")
    lab.box.write()
    words = [sys.executable, "-m", "gpuserve", "--run-dir", str(lab.box.instance.run_dir), "up"]
    lab.box.up = subprocess.Popen(
        [*NAMESPACE, *words, str(lab.box.instance.profile)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | lab.box.environment,
    )
    until(lambda: _serves(lab, "coder"), "it serves")
    socket = RunDir(lab.box.instance.run_dir).engine_socket("coder")
    workers = _named("fake-engine-worker", str(socket))
    assert workers
    (keeper,) = _named("gpuserve.daemon.supervisord", str(lab.box.instance.run_dir))
    mark = f"bystander-{lab.box.instance.port}"
    script = f'setsid bash -c "exec -a {mark} sleep 900" >/dev/null 2>&1 &'
    entered = ["nsenter", "--target", str(keeper.pid), "--pid", "bash", "-c", script]
    subprocess.run(entered, check=True)
    until(lambda: len(_named(mark, "")) == 1, "it runs")
    (bystander,) = _named(mark, "")
    until(lambda: bystander.ppid() == keeper.pid, "the keeper was given it")
    for name in ("gpuserve.controller", "gpuserve.shim"):
        for process in _named(name, str(lab.box.instance.run_dir)):
            process.suspend()
    for name in ("gpuserve.controller", "gpuserve.shim"):
        for process in _named(name, str(lab.box.instance.run_dir)):
            process.kill()
    until(lambda: not any(is_alive(p) for p in workers), "what held the memory is ended")
    until(lambda: _serves(lab, "coder"), "it serves again")
    assert is_alive(bystander)
    lab.box.up.kill()


def _named(word: str, other: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if word in line and other in line and "unshare" not in line and "bash -c" not in line:
            found.append(process)
    return found


def _serves(lab: Lab, model: str) -> bool:
    try:
        return bool(lab.box.chat(model).status == 200)
    except OSError:
        return False
