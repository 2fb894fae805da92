"""events.jsonl: a bounded file of lines that survives a full disk, and its reader.

Two files of at most MAX_FILE_BYTES: the current one and the one before, `events.jsonl.1`.
"""

import errno
import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

# About 15,000 decisions: a year of a quiet box, a day of one that fails every few seconds.
MAX_FILE_BYTES = 4 << 20
# What waits for room on the disk; more than that is dropped, and counted.
MAX_WAITING = 500


class AuditLog:
    """Appends lines. `fault` says why they are not on the disk now, None if they are."""

    def __init__(self, path: Path, max_file_bytes: int = MAX_FILE_BYTES) -> None:
        self._path = path
        self._max_file_bytes = max_file_bytes
        self._waiting: deque[bytes] = deque(maxlen=MAX_WAITING)
        self.dropped = 0
        self.fault: str | None = None

    def append(self, line: bytes) -> None:
        """Append *line*, which ends with a newline; it waits where it cannot be written."""
        if len(self._waiting) == MAX_WAITING:
            self.dropped += 1
        self._waiting.append(line)
        self.flush()

    def flush(self) -> None:
        """Write what waits, if it can be written by now; never raises."""
        try:
            while self._waiting:
                self._write(self._waiting[0])
                self._waiting.popleft()
        except OSError as error:
            self.fault = f"cannot write {self._path}: {error.strerror}"
        else:
            self.fault = None

    def _write(self, line: bytes) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        file = os.open(self._path, flags, 0o600)
        try:
            size = os.fstat(file).st_size
            if size and size + len(line) > self._max_file_bytes:
                self._path.replace(_before(self._path))
                os.close(file)
                file, size = os.open(self._path, flags, 0o600), 0
            if size and os.pread(file, 1, size - 1) != b"\n":
                line = b"\n" + line  # somebody was killed, or the box, in the middle of a line
            done = os.write(file, line)
            if done < len(line):
                os.ftruncate(file, size)
                # What the next write would say.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(file)


def iso(unix_s: float) -> str:
    """Return a moment in UTC as RFC 3339 has it: `2026-01-02T03:04:05.678Z`."""
    moment = datetime.fromtimestamp(round(unix_s, 3) + 1e-5, UTC)  # it is cut, not rounded, below
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read(path: Path) -> Iterator[bytes]:
    """Yield every line that is there, the oldest first; none where there is no file."""
    for part in (_before(path), path):
        with suppress(FileNotFoundError), part.open("rb") as file:
            yield from file


def _before(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")
