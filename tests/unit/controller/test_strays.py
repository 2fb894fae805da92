"""Who among the keeper's children nobody answers for."""

from gpuserve.controller.strays import find
from gpuserve.machine.processes import Process


def process(pid: int, ppid: int, *, zombie: bool = False) -> Process:
    return Process(pid=pid, ppid=ppid, start_ticks=pid, zombie=zombie)


def table(*processes: Process) -> dict[int, Process]:
    return {p.pid: p for p in processes}


def test_an_orphaned_engine_core_and_its_workers_are_strays() -> None:
    found = find(10, [11], table(process(11, 10), process(50, 10), process(51, 50)))
    assert [p.pid for p in found] == [50, 51]


def test_what_the_keeper_knows_and_its_descendants_are_none() -> None:
    assert find(10, [11], table(process(11, 10), process(12, 11), process(13, 12))) == []


def test_processes_of_others_and_zombies_are_none() -> None:
    assert find(10, [], table(process(7, 1), process(8, 10, zombie=True))) == []


def test_as_pid_1_only_what_was_once_below_a_shim_is_a_stray() -> None:
    orphans = table(process(50, 1), process(51, 50), process(60, 1))
    assert [p.pid for p in find(1, [], orphans, {(50, 50)})] == [50, 51]


def test_what_a_zombie_has_left_is_a_stray_too() -> None:
    """A process that has just died is read before its children have a new parent."""
    found = find(10, [], table(process(8, 10, zombie=True), process(9, 8)))
    assert [p.pid for p in found] == [9]
