"""`python -m gpuserve.router RUN_DIR SLOT`: one router process; file descriptor 0 listens.

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
    if len(sys.argv) != 3 or not sys.argv[2].isdecimal():
        print("usage: python -m gpuserve.router RUN_DIR SLOT", file=sys.stderr)
        return 2
    slot = int(sys.argv[2])
    _follow_keeper()
    if slot == 0:
        _hold()
    from gpuserve.router.worker import run

    return run(Path(sys.argv[1]), slot)


if __name__ == "__main__":
    sys.exit(main())
