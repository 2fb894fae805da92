"""Where a chunked body ends (RFC 9112, section 7.1), read as it passes.

Data goes on as it came. Size lines are held back until they are whole, so that whoever has been
sent the rest stands at the end of a chunk, or inside one whose remaining length is known.
"""

import re

# A size line may carry extensions; nobody sends them.
_LINE_BYTES = 4 << 10
_TRAILER_BYTES = 16 << 10
# A chunk is filled up to its end at most this far; beyond, a cut is the better answer.
_PAD_BYTES = 64 << 10

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILERS = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+")
# Sizes of tokens repeat; plain ones are looked up.
_SIZES: dict[bytes, int] = {b"%x" % size: size for size in range(1, 1024)}
_END = b"0\r\n\r\n"

# How tokens come: the first five bytes of a chunk to the bytes of the whole chunk. Those of small
# ones reach into the event, which begins with `data:`.
BEGINNINGS: dict[bytes, int] = {
    (b"%x\r\nd" % size)[:5]: len(b"%x" % size) + size + 4 for size in range(16, 1 << 11)
}


class Chunks:
    """Follows one chunked body. `done` and `failed` say how it ended; `excess` came after it."""

    __slots__ = ("_held", "_last", "_left", "done", "excess", "failed")

    def __init__(self) -> None:
        self._left = 0  # of this chunk, with the CRLF behind it
        self._held = b""
        self._last = False
        self.done = False
        self.failed = False
        self.excess = b""

    def feed(self, data: bytes) -> bytes:
        """Return what may be passed on now; after `done` or `failed` it is not called again."""
        if self._held:
            data = self._held + data
            self._held = b""
        if self._last:
            return self._trailers(data, 0)
        size = len(data)
        left = self._left
        at = 0
        while at < size:
            if left:
                end = at + left
                if end > size:
                    self._left = end - size
                    # Of the CRLF only the CR may have come.
                    if end == size + 1 and data[-1] != 13:
                        return self._fail(data[:-1], 2)
                    return data
                if data[end - 1] != 10 or (left > 1 and data[end - 2] != 13):
                    return self._fail(data[: max(end - 2, at)], min(left, 2))
                self._left = left = 0
                at = end
                continue
            eol = data.find(b"\r\n", at, at + _LINE_BYTES)
            if eol < 0:
                if size - at >= _LINE_BYTES:
                    return self._fail(data[:at], 0)
                self._held = data[at:]
                return data[:at]
            known = _SIZES.get(data[at:eol])
            if known is None:
                known = _size(data[at:eol])
                if known < 0:
                    return self._fail(data[:at], 0)
                if known == 0:
                    return self._trailers(data, at)
            left = known + 2
            at = eol + 2
        self._left = left
        return data

    @property
    def between(self) -> bool:
        """Whether everything was passed on, and the next byte begins a chunk."""
        return not (self._left or self._held or self._last)

    def pad(self) -> bytes | None:
        """Return what brings a receiver to the end of the chunk it is in; None if that is far."""
        if self._left > _PAD_BYTES:
            return None
        return b"\n" * (self._left - 2) + b"\r\n"[-self._left :] if self._left else b""

    def _trailers(self, data: bytes, at: int) -> bytes:
        """Read the last chunk, which begins at *at*; its trailers are dropped."""
        eol = data.find(b"\r\n", at)
        end = data.find(b"\r\n\r\n", eol)
        if end < 0:
            if len(data) - at > _TRAILER_BYTES:
                return self._fail(data[:at], 0)
            self._last = True
            self._held = data[at:]
            return data[:at]
        if _TRAILERS.fullmatch(data, eol + 2, max(end + 2, eol + 2)) is None:
            return self._fail(data[:at], 0)
        self.done = True
        self.excess = data[end + 4 :]
        return data[:at] + _END

    def _fail(self, passed: bytes, left: int) -> bytes:
        self.failed = True
        self._left = left
        return passed


def _size(line: bytes) -> int:
    """Return the size that *line* says, -1 where it says none."""
    found = _SIZE_LINE.fullmatch(line)
    return int(found[1], 16) if found else -1
