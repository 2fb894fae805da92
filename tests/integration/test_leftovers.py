"""The proof that nothing is left must itself be able to fail."""

import fcntl
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuserve.rundir import RunDir
from scripts.leftovers import Traces

# A parent that names the run directory and a child that does not, as vLLM's processes don't.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


@pytest.fixture
def tree(run_dir: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(run_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().strip().isdigit()
        yield parent
        parent.kill()


def test_an_empty_place_has_nothing_left(run_dir: Path) -> None:
    traces = Traces.of(run_dir)
    assert traces.processes == ()
    assert traces.left() == []


def test_processes_are_found_with_their_children(
    run_dir: Path, tree: subprocess.Popen[str]
) -> None:
    traces = Traces.of(run_dir)
    assert len(traces.processes) == 2
    assert traces.processes[0].pid == tree.pid
    assert len(traces.left()) == 2


def test_an_orphaned_child_is_still_found(run_dir: Path, tree: subprocess.Popen[str]) -> None:
    traces = Traces.of(run_dir)
    child = traces.processes[1]
    child.suspend()  # so that it does not notice that its parent is gone
    tree.kill()
    tree.wait()
    assert traces.left() == [f"process {child.pid}: {' '.join(child.cmdline())}"]
    child.kill()


def test_sockets_locks_and_ports_are_found(run_dir: Path) -> None:
    lock = RunDir(run_dir).lock
    with (
        socket.socket(socket.AF_UNIX) as unix,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        lock.open("wb") as held,
    ):
        unix.bind(str(run_dir / "keeper.sock"))
        fcntl.flock(held, fcntl.LOCK_EX)
        port = tcp.getsockname()[1]
        assert Traces.of(run_dir).left(port=port) == [
            f"socket {run_dir / 'keeper.sock'}",
            f"lock {lock}",
            f"port {port} answers",
        ]
    (run_dir / "keeper.sock").unlink()
    assert Traces.of(run_dir).left(port=port) == []
