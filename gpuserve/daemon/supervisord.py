"""supervisord as it is, but for a stderr that cannot end it, and a run directory to leave clean.

When a log file cannot be written, supervisord writes a traceback to stderr (supervisor 4.3,
loggers.py, `handleError`); where stderr is a file on the same full disk, or a terminal that
went away, that raises again and ends the keeper with every engine.
"""

import signal
import sys
from pathlib import Path
from typing import NoReturn, TextIO

from supervisor import supervisord

from gpuserve.machine import instance
from gpuserve.rundir import RunDir


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
        # Every process has ended, so this is the moment from which nothing runs here.
        if own is not None:
            instance.release(run_dir, own.identity)


if __name__ == "__main__":
    main()
