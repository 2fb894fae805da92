"""supervisord as it is, but for a stderr that cannot end it.

When a log file cannot be written, supervisord writes a traceback to stderr (supervisor 4.3,
loggers.py, `handleError`); where stderr is a file on the same full disk, or a terminal that
went away, that raises again and ends the keeper with every engine.
"""

import sys
from typing import TextIO

from supervisor import supervisord


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


def main() -> None:
    """Run supervisord with the arguments of this process."""
    sys.stdout, sys.stderr = Unfailing(sys.stdout), Unfailing(sys.stderr)
    supervisord.main()


if __name__ == "__main__":
    main()
