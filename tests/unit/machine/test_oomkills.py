"""Whose memory ran out when the kernel killed something."""

from pathlib import Path

import pytest

from gpuserve.machine.oomkills import on_whose_account, read


def write(path: Path, **counters: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{key} {value}\n" for key, value in counters.items()))


class Box:
    """A /proc and a cgroup tree: /unit/keeper, where we are, below /unit with a limit."""

    def __init__(self, root: Path) -> None:
        self.proc, self.cgroups = root / "proc", root / "cgroups"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self" / "cgroup").write_text("0::/unit/keeper\n")
        self.count()
        (self.cgroups / "unit" / "memory.max").write_text(f"{2 << 30}\n")
        (self.cgroups / "unit" / "keeper" / "memory.max").write_text("max\n")

    def count(self, *, unit_met: int = 0, killed: int = 0, host: int = 0) -> None:
        write(self.proc / "vmstat", nr_free_pages=1, oom_kill=host)
        for path, met in (("unit", unit_met), ("unit/keeper", 0)):
            write(self.cgroups / path / "memory.events", oom=unit_met, oom_kill=killed)
            write(self.cgroups / path / "memory.events.local", oom=met, oom_kill=killed)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def told(box: Box, **counters: int) -> str | None:
    before = read(box.proc, box.cgroups)
    box.count(**counters)
    return on_whose_account(before, read(box.proc, box.cgroups))


def test_nothing_was_killed(box: Box) -> None:
    assert told(box) is None
    assert told(box, unit_met=1) is None, "met, and something was reclaimed"


def test_the_group_whose_limit_was_met_is_named(box: Box) -> None:
    assert told(box, unit_met=1, killed=1, host=1) == "the memory limit of cgroup /unit, 2.00 GiB"


def test_without_a_limit_it_was_the_host(box: Box) -> None:
    assert told(box, killed=1, host=1) == "the host's memory ran out"
    assert told(box, killed=1, host=2) == "the host's memory ran out"


def test_what_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    assert on_whose_account(read(tmp_path, tmp_path), read(tmp_path, tmp_path)) is None


def test_the_older_hierarchy_is_read_too(tmp_path: Path) -> None:
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroups"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("5:cpu,cpuacct:/x\n9:memory:/box\n")
    group = cgroups / "memory" / "box"
    write(group / "memory.oom_control", oom_kill_disable=0, oom_kill=3)
    (group / "memory.limit_in_bytes").write_text(f"{1 << 30}\n")
    before = read(proc, cgroups)
    write(group / "memory.oom_control", oom_kill_disable=0, oom_kill=4)
    after = read(proc, cgroups)
    assert on_whose_account(before, after) == "the memory limit of cgroup /box, 1.00 GiB"


def test_this_box_can_be_read() -> None:
    assert on_whose_account(read(), read()) is None
