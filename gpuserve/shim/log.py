"""The engine's log file: capped lines, capped rate, rotation, and no disk can stop it."""

import os
import time
from pathlib import Path

MAX_LINE_BYTES = 16 * 1024
MAX_FILE_BYTES = 10 * 1024 * 1024
BACKUPS = 2
# vLLM at DEBUG writes a few hundred lines a second; what is beyond this is a loop.
MAX_LINES_PER_S = 2000


class EngineLog:
    """Appends lines to a file; drops and counts what it cannot or should not write.

    `dropped` counts lines that are in no file: beyond the rate, or when the disk was full.
    """

    def __init__(self, path: Path, max_file_bytes: int = MAX_FILE_BYTES) -> None:
        self._path = path
        self._max_file_bytes = max_file_bytes
        self._file = -1
        self._size = 0
        self._second = 0
        self._lines = 0
        self._owed = 0
        self.dropped = 0

    def write(self, line: bytes) -> None:
        """Append *line*, which has no newline."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
            if self._owed:
                owed, self._owed = self._owed, 0
                self._append(b"[gpuserve] %d lines were dropped here" % owed)
        self._lines += 1
        if self._lines > MAX_LINES_PER_S:
            self._drop()
            return
        if len(line) > MAX_LINE_BYTES:
            line = line[:MAX_LINE_BYTES] + b" [gpuserve] %d bytes cut" % (
                len(line) - MAX_LINE_BYTES
            )
        self._append(line)

    def _append(self, line: bytes) -> None:
        try:
            if self._file < 0:
                self._open()
            if self._size + len(line) + 1 > self._max_file_bytes:
                self._rotate()
            done = os.write(self._file, line + b"\n")
        except OSError:  # full disk, quota, a directory that went away: the engine goes on
            self._drop()
            self._close()
            return
        self._size += done

    def _drop(self) -> None:
        self.dropped += 1
        self._owed += 1

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._file).st_size

    def _rotate(self) -> None:
        self._close()
        for number in range(BACKUPS, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path.with_name(f"{self._path.name}.{number - 1}")
            source = self._path if number == 1 else newer
            if source.exists():
                source.replace(older)
        self._open()

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Lines:
    """Cuts a stream of bytes into lines, holding at most a few times MAX_LINE_BYTES."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that *data* completes, without newline or carriage return.

        A progress bar redraws its line with carriage returns; each redraw counts as a line.
        A line longer than twice MAX_LINE_BYTES is handed out cut, and its rest skipped.
        """
        pieces = (self._rest + data).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = pieces.pop()
        if pieces and self._skipping:
            pieces.pop(0)
            self._skipping = False
        if len(self._rest) > 2 * MAX_LINE_BYTES:
            if not self._skipping:
                pieces.append(self._rest)
                self._skipping = True
            self._rest = b""
        return [piece for piece in pieces if piece.strip()]

    def end(self) -> list[bytes]:
        """Return what is left when the stream ended."""
        rest, self._rest = self._rest, b""
        return [] if self._skipping or not rest.strip() else [rest]
