"""The process table: who descends from whom, and whether a pid is still the same process.

Standard library only: the shim uses it. A process is known by pid and start time together,
because pids are reused; an environment marker would not do, vLLM's setproctitle wipes it.
"""

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# More than its 52 numbers and the name take (proc_pid_stat(5)).
_STAT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Process:
    """A process at one moment. `start_ticks` is its start in clock ticks since boot."""

    pid: int
    ppid: int
    start_ticks: int
    zombie: bool


def read(pid: int) -> Process | None:
    """Return the process of that pid, or None if there is none."""
    try:
        # Not pathlib: every process is read every few seconds.
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(fd, _STAT_BYTES)
        finally:
            os.close(fd)
    except OSError:
        return None
    # The name in parentheses may hold anything, also parentheses: proc_pid_stat(5).
    fields = text[text.rindex(b")") + 2 :].split()
    return Process(
        pid=pid, ppid=int(fields[1]), start_ticks=int(fields[19]), zombie=fields[0] in b"ZX"
    )


def everything() -> dict[int, Process]:
    """Return all processes by pid."""
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - names only, on a hot path
        if name.isdigit():
            process = read(int(name))
            if process is not None:
                found[process.pid] = process
    return found


def boot_id() -> str:
    """Return what tells this boot from any other: pids and start times repeat, it does not."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def command_of(pid: int) -> bytes:
    """Return the command line of *pid*, its words ended by zeros; empty if it cannot be read."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def age_s(start_ticks: int) -> float:
    """Return the seconds since *start_ticks*, whatever the wall clock was set to meanwhile."""
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    return max(0.0, now_s - start_ticks / os.sysconf("SC_CLK_TCK"))


def descendants(root: int, table: dict[int, Process]) -> list[Process]:
    """Return the living descendants of *root* in *table*, parents before children."""
    by_parent: dict[int, list[Process]] = {}
    for process in table.values():
        by_parent.setdefault(process.ppid, []).append(process)
    found: list[Process] = []
    todo = [root]
    while todo:
        for child in by_parent.get(todo.pop(), ()):
            todo.append(child.pid)
            if not child.zombie:
                found.append(child)
    return found


def same(pid: int, start_ticks: int) -> bool:
    """Return whether *pid* still is the process that started at *start_ticks* and lives."""
    process = read(pid)
    return process is not None and process.start_ticks == start_ticks and not process.zombie


def signal_all(processes: Iterable[Process], number: signal.Signals) -> None:
    """Send a signal to each of *processes* that still is the process that was read."""
    for process in processes:
        if same(process.pid, process.start_ticks):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, number)
