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


def _follow_keeper() -> None:
    # The keeper's death ends the engines too; a router left behind would hold the port.
    from gpuserve.machine.kernel import die_with_parent

    parent = os.getppid()
    die_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Hold or serve until SIGTERM, or until the parent ends; the exit status."""
    fast = "--aiohttp-only" not in sys.argv[1:]
    words = [word for word in sys.argv[1:] if word != "--aiohttp-only"]
    if len(words) != 2 or not words[1].isdecimal():
        print("usage: python -m gpuserve.router [--aiohttp-only] RUN_DIR SLOT", file=sys.stderr)
        return 2
    slot = int(words[1])
    _follow_keeper()
    if slot == 0:
        _hold()
    from gpuserve.router.worker import run

    return run(Path(words[0]), slot, fast=fast)


if __name__ == "__main__":
    sys.exit(main())
