"""supervisord as it is, but for a stderr that cannot end it, and a run directory to leave clean.

When a log file cannot be written, supervisord writes a traceback to stderr (supervisor 4.3,
loggers.py, `handleError`); where stderr is a file on the same full disk, or a terminal that
went away, that raises again and ends the keeper with every engine.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn, TextIO

from supervisor import supervisord

from gpuserve.machine import families, instance
from gpuserve.machine.processes import descendants, everything, signal_all
from gpuserve.rundir import RunDir
from gpuserve.shim.status import outputs

# SIGKILL works at once or, in a driver call, not at all.
_PATIENCE_S = 5.0
_LOOK_S = 0.05


class Unfailing:
    """A stream that drops what cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write *text*, or drop it."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            pass
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def fileno(self) -> int:
        """Return the stream's descriptor."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self._stream.isatty()


def end_what_is_left(run_dir: RunDir, own: instance.Instance) -> None:
    """End what killed shims have left and no controller was there to end; wait a while for it."""
    for _ in range(int(_PATIENCE_S / _LOOK_S)):
        table = everything()
        left = []
        if os.getpid() != 1:  # the first process of a container is given everybody's orphans
            mine = {p.pid for p in table.values() if p.ppid == os.getpid()} - set(own.children)
            left = [table[pid] for pid in mine if not table[pid].zombie]
            left += [p for pid in mine for p in descendants(pid, table)]
            signal_all(left, signal.SIGKILL)
        family = families.read(run_dir) | families.writers(outputs(run_dir))
        if not families.end(family) and not left:
            return
        time.sleep(_LOOK_S)


def _leave(*_: object) -> NoReturn:
    raise SystemExit(0)


def main() -> None:
    """Run supervisord with the arguments of this process, `-n -c RUN_DIR/keeper.conf`."""
    sys.stdout, sys.stderr = Unfailing(sys.stdout), Unfailing(sys.stderr)
    run_dir = RunDir(Path(sys.argv[-1]).parent)
    own = instance.read(run_dir)
    stops = (signal.SIGTERM, signal.SIGINT)
    try:
        for number in stops:  # supervisord sets its own handlers once it is ready for them
            signal.signal(number, _leave)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)
        supervisord.main()
    finally:
        # Every process that supervisord knows has ended; now the others.
        if own is not None:
            end_what_is_left(run_dir, own)
            instance.release(run_dir, own.identity)


if __name__ == "__main__":
    main()
