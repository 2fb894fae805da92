"""Children of the keeper that nobody answers for: what a killed shim left behind.

The keeper is a subreaper, so an engine core whose server and shim were killed becomes its
child, with its GPU memory. Ancestry is all that is needed to know it.
"""

import asyncio
import signal
from collections.abc import Collection, Iterable

from gpuserve.machine import families
from gpuserve.machine.families import Output
from gpuserve.machine.processes import Process, descendants, everything, signal_all

_LOOK_AGAIN_S = 0.1
# SIGKILL works at once or, in a driver call, not at all; then the gate keeps the device shut.
_PATIENCE_S = 15.0


def find(
    keeper_pid: int,
    kept: Iterable[int],
    table: dict[int, Process],
    seen: Collection[tuple[int, int]] | None = None,
) -> list[Process]:
    """Return the keeper's children in *table* that are not in *kept*, with their descendants.

    *kept* are pids that somebody answers for. *seen*, where it is given, restricts the answer
    to processes (pid, start) that were once seen below a shim: as pid 1 of a container the
    keeper is given every orphan, whoever's it was.

    *table* must have been read before *kept* was asked for: a process that the keeper started
    in between is then in *kept* but not in *table*, never the other way round.
    """
    known = set(kept)
    strays = []
    for process in table.values():
        if process.ppid != keeper_pid or process.pid in known:
            continue
        if seen is None or (process.pid, process.start_ticks) in seen:
            strays += [] if process.zombie else [process]
            strays += descendants(process.pid, table)  # a zombie's may not be told of it yet
    return strays


async def end_writers(output: Output) -> int:
    """SIGKILL whoever writes to *output*, until nobody does; return how many they were."""
    ended: set[tuple[int, int]] = set()
    for _ in range(int(_PATIENCE_S / _LOOK_AGAIN_S)):
        writers = families.writers([output])
        if not writers:
            break
        ended |= writers
        families.end(writers)
        await asyncio.sleep(_LOOK_AGAIN_S)
    return len(ended)


async def end(strays: list[Process]) -> None:
    """SIGKILL *strays* and wait until they are gone, or for _PATIENCE_S."""
    signal_all(strays, signal.SIGKILL)
    for _ in range(int(_PATIENCE_S / _LOOK_AGAIN_S)):
        table = everything()
        if not any(
            (now := table.get(stray.pid))
            and now.start_ticks == stray.start_ticks
            and not now.zombie
            for stray in strays
        ):
            return
        await asyncio.sleep(_LOOK_AGAIN_S)
