"""A cgroup of its own ends an engine with every descendant, where there is cgroup v2."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gpuserve.machine.cgroup import Group, delegated
from tests.e2e.instance import until

CHILD = """
import os, time
os.fork() or (os.setsid(), os.fork())
os.write(1, bytes([117, 112, 10]))  # in one piece, whatever the buffering
time.sleep(9999)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    for root in (Path(row[1]) for row in mounts if row[2] == "cgroup2"):
        group = root / f"gpuserve-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / "cgroup.kill").exists():
            yield group
            group.rmdir()
            return
        group.rmdir()
    pytest.skip("no cgroup v2 with cgroup.kill that this user may write to")


def test_one_write_ends_children_that_called_setsid(place: Path) -> None:
    group = Group(place / "engine-a")
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], preexec_fn=group.enter, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for _ in range(3):
        assert child.stdout.readline() == "up\n"
    pids = [int(pid) for pid in (place / "engine-a" / "cgroup.procs").read_text().split()]
    assert len(pids) == 3
    group.kill()
    child.communicate(timeout=20)
    until(lambda: not any(map(psutil.pid_exists, pids)), "all three are gone")
    group.remove()
    assert not (place / "engine-a").exists()


def test_a_group_that_cannot_be_made_stops_nobody(tmp_path: Path) -> None:
    group = Group(tmp_path / "no" / "such" / "place")
    group.enter()
    group.kill()
    group.remove()


def test_without_a_service_manager_nothing_is_delegated() -> None:
    assert delegated({}) is None
