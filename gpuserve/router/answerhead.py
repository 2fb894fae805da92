"""The head of an engine's answer, from bytes: what goes to the client, and where the body ends."""

import re
from dataclasses import dataclass
from typing import Final

HEAD_BYTES = 64 << 10

# Framings of a body that are no number of bytes.
CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*+)?\r\n")
_FIELDS = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+")
_MOST_DIGITS = 15
# Of one connection (RFC 9110, section 7.6.1), or ours to say; usually none of them is there.
_DROPPED = (
    b"\r\nconnection:",
    b"\r\nkeep-alive:",
    b"\r\nproxy-",
    b"\r\nte:",
    b"\r\ntrailer:",
    b"\r\nupgrade:",
    b"\r\nx-request-id:",
    b"\r\nx-gpuserve-",
    b"\r\naccess-control-allow-",
    b"\r\naccess-control-expose-",
)
_ANY_DROPPED = re.compile(b"|".join(_DROPPED))
_LENGTH_LINE = b"\r\ncontent-length: "
_MOST_KNOWN = 64
_EVENTS = b"\r\ncontent-type: text/event-stream"
_NO_BODY = frozenset((204, 304))


@dataclass(slots=True)
class AnswerHead:
    """`lines` are the status line and the headers for the client, each with its CRLF.

    `length` is that of the body, CHUNKED or UNTIL_CLOSE; `keep` says that the connection may be
    used again, `events` that the body is a stream of server-sent events.
    """

    status: int
    lines: bytes
    length: int
    keep: bool
    events: bool


_new = object.__new__


class _Known:
    """A head that was read, in the parts around the digits of its length, if it says one."""

    __slots__ = ("_after", "_before", "_begin", "_behind", "head")

    def __init__(self, head: AnswerHead, block: bytes, at: int, stop: int) -> None:
        """Take *head*, which *block* says; from *at* to *stop* are digits, from -1 on are none."""
        self.head = head
        self._begin = block[:at] if at >= 0 else block + b"\r\n"
        self._behind = block[stop:] + b"\r\n" if at >= 0 else b""
        split = head.lines.find(_LENGTH_LINE) + 18
        self._before = head.lines[:split]
        self._after = head.lines[head.lines.find(b"\r", split) :]

    def begins(self, data: bytes) -> tuple[AnswerHead, int] | None:
        """Return the head that *data* begins with and its size, None where it is another."""
        if not data.startswith(self._begin):
            return None
        start = len(self._begin)
        if not self._behind:
            return self.head, start
        stop = data.find(b"\r", start, start + _MOST_DIGITS + 1)
        digits = data[start:stop]
        if not digits.isdigit() or not data.startswith(self._behind, stop):
            return None
        return self.of(digits), stop + len(self._behind)

    def of(self, digits: bytes) -> AnswerHead:
        """Return the same head with another length."""
        like = self.head
        head = _new(AnswerHead)  # without the call that its initialisation costs
        head.status = like.status
        head.lines = self._before + digits + self._after
        head.length = int(digits)
        head.keep = like.keep
        head.events = like.events
        return head


class AnswerHeads:
    """Reads the heads of answers, and remembers those that differ in their length only.

    An engine writes the same lines for all answers of one second.
    """

    __slots__ = ("_known", "_last")

    def __init__(self) -> None:
        self._known: dict[bytes, _Known] = {}
        self._last: _Known | None = None

    def begins(self, data: bytes) -> tuple[AnswerHead, int] | None:
        """Return the head that *data* begins with, and its size, where it is as the last one.

        None says nothing.
        """
        return self._last.begins(data) if self._last is not None else None

    def read(self, block: bytes) -> AnswerHead | None:
        """Return what `read_answer_head` returns."""
        # Without its value the line is an empty one, of which a head has no other: so whatever
        # is equal without its value was equal with it, but for the value.
        at = block.find(_LENGTH_LINE)
        stop = block.find(b"\r\n", at + 18) if at >= 0 else 0
        key = block[:at] + block[stop:] if at >= 0 else block
        digits = block[at + 18 : stop]
        plain = at < 0 or (digits.isdigit() and len(digits) <= _MOST_DIGITS)
        if not plain:
            return read_answer_head(block)
        known = self._known.get(key)
        if known is not None:
            self._last = known
            return known.of(digits) if at >= 0 else known.head
        head = read_answer_head(block)
        if head is not None and head.status not in _NO_BODY and head.status >= 200:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            start = at + 18 if at >= 0 else -1
            self._known[key] = self._last = _Known(head, block, start, stop)
        return head


def read_answer_head(block: bytes) -> AnswerHead | None:
    """Return what *block*, a head without its blank line, says; None when it is no head.

    That includes one that says in two ways where its body ends.
    """
    found = _STATUS.match(block)
    if found is None or _FIELDS.fullmatch(block, found.end()) is None:
        return None
    status = int(found[2])
    lower = block.lower()
    modern = found[1] == b"1"
    length = _length(lower, status, modern=modern)
    if length is None:
        return None
    keep = modern and length != UNTIL_CLOSE
    if b"\r\nconnection:" in lower:
        keep = keep and not _says_close(lower)
        block, lower = _without_named(block, lower)
    if _ANY_DROPPED.search(lower) is not None:
        for name in _DROPPED:
            block, lower = _without(block, lower, name)
    if not modern:
        block = b"HTTP/1.1" + block[8:]
    return AnswerHead(status, block, length, keep, _EVENTS in lower)


def _length(lower: bytes, status: int, *, modern: bool) -> int | None:
    """Return the framing; None for one that cannot be trusted."""
    at = lower.find(b"\r\ncontent-length:")
    coded = lower.find(b"\r\ntransfer-encoding:")
    length = UNTIL_CLOSE
    if coded >= 0:
        stop = lower.find(b"\r\n", coded + 20)
        plain = lower[coded + 20 : stop].strip(b" \t") == b"chunked"
        if at >= 0 or not plain or not modern or b"\r\ntransfer-encoding:" in lower[stop:]:
            return None
        length = CHUNKED
    elif at >= 0:
        stop = lower.find(b"\r\n", at + 17)
        digits = lower[at + 17 : stop].strip(b" \t")
        if not digits.isdigit() or len(digits) > _MOST_DIGITS:
            return None
        if b"\r\ncontent-length:" in lower[stop:]:
            return None
        length = int(digits)
    return 0 if status in _NO_BODY or status < 200 else length


def _says_close(lower: bytes) -> bool:
    return any(b"close" in words for words in _connection_words(lower))


def _without_named(block: bytes, lower: bytes) -> tuple[bytes, bytes]:
    """Drop the headers that Connection names, but for those that say where the body ends."""
    for words in _connection_words(lower):
        for word in words - {b"content-length", b"transfer-encoding", b"close"}:
            if word:
                block, lower = _without(block, lower, b"\r\n" + word + b":")
    return block, lower


def _connection_words(lower: bytes) -> list[set[bytes]]:
    values = [line[11:] for line in lower.split(b"\r\n") if line.startswith(b"connection:")]
    return [{word.strip(b" \t") for word in value.split(b",")} for value in values]


def _without(block: bytes, lower: bytes, name: bytes) -> tuple[bytes, bytes]:
    while (at := lower.find(name)) >= 0:
        stop = lower.find(b"\r\n", at + 2)
        block = block[:at] + block[stop:]
        lower = lower[:at] + lower[stop:]
    return block, lower
