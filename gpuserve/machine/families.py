"""families.json: which processes belong to the engines, so that none is lost when all is killed.

Pid and start time say which process is meant; the boot's id says that both are of this boot.
"""

import json
import signal
from collections.abc import Collection
from pathlib import Path

from gpuserve.machine.files import overwrite_file
from gpuserve.machine.processes import Process, everything, signal_all
from gpuserve.rundir import RunDir


def write(run_dir: RunDir, members: Collection[tuple[int, int]]) -> None:
    """Write *members*, pairs of pid and start in ticks; raises OSError."""
    content = {"boot": _boot_id(), "members": sorted(members)}
    overwrite_file(run_dir.families, json.dumps(content).encode())


def read(run_dir: RunDir) -> set[tuple[int, int]]:
    """Return what was written during this boot; empty if there is nothing that can be read."""
    try:
        found = json.loads(run_dir.families.read_text(encoding="ascii"))
        if found["boot"] != _boot_id():
            return set()
        return {(int(pid), int(ticks)) for pid, ticks in found["members"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def end(members: Collection[tuple[int, int]]) -> list[Process]:
    """SIGKILL those of *members* that still live, and return them."""
    table = everything()
    living = [
        table[pid]
        for pid, ticks in members
        if pid in table and table[pid].start_ticks == ticks and not table[pid].zombie
    ]
    signal_all(living, signal.SIGKILL)
    return living


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
