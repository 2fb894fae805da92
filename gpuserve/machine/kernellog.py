"""The kernel's log from now on, read without waiting (Documentation/ABI/testing/dev-kmsg)."""

import errno
import os
from contextlib import suppress
from pathlib import Path

_KMSG = Path("/dev/kmsg")
# A record is at most 8 KiB with its tags (kernel/printk/printk.c, CONSOLE_EXT_LOG_MAX).
_RECORD_BYTES = 8192
_MOST_RECORDS = 1000


class KernelLog:
    """An open log. What was written before it was opened is not read."""

    def __init__(self, path: Path = _KMSG) -> None:
        """Open *path*; raises OSError where there is none, or this user may not."""
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with suppress(OSError):  # a pipe has no end to go to
            os.lseek(self._fd, 0, os.SEEK_END)

    def fileno(self) -> int:
        """Return what to wait on: readable when there is a record."""
        return self._fd

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)

    def lines(self, at_most: int = _MOST_RECORDS) -> list[str]:
        """Return the messages that have come since, of so many records *at_most*.

        Raises OSError where it cannot be read any more, EOFError where it has ended.
        """
        found: list[str] = []
        for _ in range(at_most):
            try:
                record = os.read(self._fd, _RECORD_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.EPIPE:  # records were overwritten before they were read
                    continue
                raise
            if not record:
                if not found:
                    raise EOFError
                break
            # "6,1234,5678,-;the message", then lines of tags that begin with a space.
            lines = record.decode("utf-8", "replace").splitlines()
            found += [line.partition(";")[2] or line for line in lines if line[:1] != " "]
        return found
