"""Which processes belong to the engines, so that none is lost when all is killed.

Two traces say so. families.json names those that were seen: pid and start time say which
process is meant, the boot's id that both are of this boot. And whoever was started a moment
before still writes to the pipe that the shim made for the engine's output: the kernel tells its
number, which no setsid and no new title changes.
"""

import json
import signal
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpuserve.machine.files import overwrite_file
from gpuserve.machine.processes import Process, boot_id, everything, signal_all
from gpuserve.rundir import RunDir


def write(run_dir: RunDir, members: Collection[tuple[int, int]]) -> None:
    """Write *members*, pairs of pid and start in ticks; raises OSError."""
    content = {"boot": boot_id(), "members": sorted(members)}
    overwrite_file(run_dir.families, json.dumps(content).encode())


def read(run_dir: RunDir) -> set[tuple[int, int]]:
    """Return what was written during this boot; empty if there is nothing that can be read."""
    try:
        found = json.loads(run_dir.families.read_text(encoding="ascii"))
        if found["boot"] != boot_id():
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


@dataclass(frozen=True, slots=True)
class Output:
    """The pipe of an engine's output: its inode, and the start of the shim that made it.

    The kernel counts inodes of pipes up and comes back to one after 2^32 of them; what started
    before the shim cannot write to its pipe.
    """

    inode: int
    since_ticks: int


def writers(outputs: Collection[Output]) -> set[tuple[int, int]]:
    """Return pid and start of every process whose stdout or stderr is one of *outputs*."""
    since = {f"pipe:[{output.inode}]": output.since_ticks for output in outputs if output.inode}
    found = set()
    for process in everything().values() if since else ():
        for number in (1, 2):
            with suppress(OSError):  # it has just gone, or is somebody else's
                target = str(Path(f"/proc/{process.pid}/fd/{number}").readlink())
                if process.start_ticks >= since.get(target, process.start_ticks + 1):
                    found.add((process.pid, process.start_ticks))
    return found
