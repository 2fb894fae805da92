"""`python -m gpuserve.router [--aiohttp-only] RUN_DIR SLOT`: one router process.

File descriptor 0 listens. With --aiohttp-only there is no fast path.

Slot 0 only holds the listening socket open, so that no connection is refused while a worker is
replaced; it imports nothing that could fail. Every other slot serves.
"""

import os
import signal
import sys
from pathlib import Path


def _hold() -> None:
    while True:
        signal.pause()


def _follow_keeper(path: Path) -> bool:
    """Have the kernel end this process with the keeper; return whether the keeper still lives.

    The keeper's death ends the engines too; a router left behind would hold the port. It may
    have died before this line: then our parent is another process, which lives for ever.
    """
    from gpuserve.machine import instance
    from gpuserve.machine.kernel import die_with_parent
    from gpuserve.rundir import RunDir

    die_with_parent(signal.SIGTERM)
    if "SUPERVISOR_ENABLED" not in os.environ:
        return True  # started by hand
    found = instance.read(RunDir(path))
    return found is not None and found.keeper_pid == os.getppid()


def main() -> int:
    """Hold or serve until SIGTERM, or until the parent ends; the exit status."""
    fast = "--aiohttp-only" not in sys.argv[1:]
    words = [word for word in sys.argv[1:] if word != "--aiohttp-only"]
    if len(words) != 2 or not words[1].isdecimal():
        print("usage: python -m gpuserve.router [--aiohttp-only] RUN_DIR SLOT", file=sys.stderr)
        return 2
    path, slot = Path(words[0]), int(words[1])
    if not _follow_keeper(path):
        print(f"router {slot}: the keeper has ended", file=sys.stderr)
        return 70
    if slot == 0:
        _hold()
    from gpuserve.router.worker import run

    return run(path, slot, fast=fast)


if __name__ == "__main__":
    sys.exit(main())
