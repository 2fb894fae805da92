"""The head of a request, from bytes: ours to carry, refused, or for the slow side.

The grammar is RFC 9112's without its liberties: one way to write a line, one way to say where a
body ends. What is taken here is forwarded, so nothing may be read differently by an engine.
"""

import re
from dataclasses import dataclass

HEAD_BYTES = 32 << 10

# How the body of a request for the slow side ends, where it is not a number of bytes.
CHUNKED = -1
UNSURE = -2

# Requests that are carried by bytes; everything else is rare.
_OURS: dict[bytes, str] = {
    b"POST " + path.encode() + b" HTTP/1.1": path
    for path in (
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
    )
}
# Of a query: what nobody reads in two ways.
_QUERY = re.compile(rb"\?[0-9A-Za-z._~=&+,:%-]*+")
# What follows a CONNECT is no request to some, whatever its head says.
_REQUEST_LINE = re.compile(rb"(?!CONNECT )[A-Z]{1,32}+ [\x21-\x7e]++ HTTP/1\.1")
# A token, a colon, and what may stand in a value: no bare CR or LF, no NUL, no other control
# character, no space before the colon, no line that continues the one before.
_FIELDS = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+")
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_MOST_DIGITS = 15
# What Connection may say here; any other word names a header, and is the slow side's.
_CONNECTION: dict[bytes, bool] = {b"keep-alive": False, b"close": True}
# These need work on the body, or an answer before it, or further headers in the answer.
_SLOW = (
    b"\r\nexpect:",
    b"\r\nupgrade:",
    b"\r\ncontent-encoding:",
    b"\r\nhttp2-settings:",
)
# Of one connection (RFC 9110, section 7.6.1): not for the engine.
_DROPPED = (
    b"\r\nkeep-alive:",
    b"\r\nproxy-connection:",
    b"\r\nproxy-authorization:",
    b"\r\nproxy-authenticate:",
    b"\r\nte:",
    b"\r\ntrailer:",
)
_FORM = re.compile(rb"\r\ncontent-type:[\t ]*+multipart/form-data")


@dataclass(slots=True)
class Head:
    """A request that is carried here.

    `fields` are the lines for the engine, each with its CRLF: those of the client but for Host,
    its request id and what concerns this connection only; Content-Length is among them.
    `size` counts the bytes of the head with its blank line, `length` those of the body. `query`
    is what stands behind the path, its question mark included; `origin` the page that asks, None
    where it is no page.
    """

    path: str
    fields: bytes
    size: int
    length: int
    close: bool
    request_id: bytes | None
    query: bytes = b""
    origin: str | None = None


_new = object.__new__


class Template:
    """What all heads say that differ from one in the digits of Content-Length only.

    A client sends the same lines again and again; comparing them costs a tenth of reading them.
    """

    __slots__ = ("_after", "_before", "_head", "_prefix", "_start", "_suffix")

    def __init__(self, data: bytes, head: Head) -> None:
        """Take the *head* that *data* begins with, which names no request id."""
        lower = data[: head.size].lower()
        digits = b"%d" % head.length
        self._start = lower.index(digits, lower.index(b"\r\ncontent-length:"))
        self._prefix = data[: self._start]
        self._suffix = data[self._start + len(digits) : head.size]
        fields = head.fields
        at = fields.index(digits, (b"\r\n" + fields).lower().index(b"\r\ncontent-length:"))
        self._before = fields[:at]
        self._after = fields[at + len(digits) :]
        self._head = head

    def read(self, data: bytes) -> Head | None:
        """Return the head that *data* begins with; None if it is another, or not whole."""
        if not data.startswith(self._prefix):
            return None
        start = self._start
        stop = data.find(b"\r", start, start + _MOST_DIGITS + 1)
        digits = data[start:stop]
        if not digits.isdigit() or digits[0] == 48 or not data.startswith(self._suffix, stop):
            # What follows the digits in the first head, say a blank, is part of the suffix.
            return None
        like = self._head
        head = _new(Head)  # without the call that its initialisation costs
        head.path = like.path
        head.fields = self._before + digits + self._after
        head.size = stop + len(self._suffix)
        head.length = int(digits)
        head.close = like.close
        head.request_id = None
        head.query = like.query
        head.origin = like.origin
        return head


@dataclass(frozen=True, slots=True)
class Bad:
    """Bytes that are no request; `status` is 400 or 431, and the connection ends with it."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class Slow:
    """A request for the slow side.

    `size` is that of the head, blank line included, `length` that of the body, CHUNKED, or
    UNSURE: then nobody but the slow side can tell where the next request begins.
    """

    size: int
    length: int


_DOUBTFUL = Slow(0, UNSURE)


def read_head(data: bytes) -> Head | Bad | Slow | None:
    """Return what the request is that *data* begins with; None while its head is not whole."""
    end = data.find(b"\r\n\r\n", 0, HEAD_BYTES + 4)
    if end < 0:
        return _unfinished(data)
    eol = data.find(b"\r\n")
    line = data[:eol]
    path = _OURS.get(line)
    query = b""
    if path is None and b"?" in line:
        path, query = _with_query(line)
    block = data[eol : end + 2]  # with the CRLF before the first name
    if _FIELDS.fullmatch(block, 2) is None:
        return _DOUBTFUL if path is None else Bad(400, _fault(block[2:]))
    lower = block.lower()
    if path is None:
        known = _REQUEST_LINE.fullmatch(data, 0, eol) is not None
        return _elsewhere(lower, end + 4) if known else _DOUBTFUL
    found = _ours(path, block, lower, end + 4)
    if query and isinstance(found, Head):
        found.query = query
    return found


def _with_query(line: bytes) -> tuple[str | None, bytes]:
    """Return the path of ours that *line* asks for, and its query; None where there is doubt."""
    at = line.find(b"?")
    stop = line.rfind(b" ")
    path = _OURS.get(line[:at] + line[stop:])
    plain = path is not None and _QUERY.fullmatch(line, at, stop) is not None
    return (path, line[at:stop]) if plain else (None, b"")


def _ours(path: str, block: bytes, lower: bytes, size: int) -> Head | Bad | Slow:
    at = lower.find(b"\r\ncontent-length:")
    if b"\r\ntransfer-encoding:" in lower:
        return _coded(lower, size)
    if at < 0:
        return Slow(size, 0)
    stop = block.find(b"\r\n", at + 17)
    digits = block[at + 17 : stop].strip(b" \t")
    if not digits.isdigit() or len(digits) > _MOST_DIGITS:
        return Bad(400, "Content-Length is not a number")
    if lower.find(b"\r\ncontent-length:", stop) >= 0:
        return Bad(400, "Content-Length stands twice")
    length = int(digits)
    host = lower.find(b"\r\nhost:")
    if host < 0 or lower.find(b"\r\nhost:", host + 2) >= 0:
        return Bad(400, "there must be one Host")
    if not length or (digits[0] == 48) or any(name in lower for name in _SLOW):
        return Slow(size, length)
    if b"multipart" in lower and _FORM.search(lower):
        return Slow(size, length)
    return _cleaned(path, block, lower, host, size, length)


def _cleaned(
    path: str, block: bytes, lower: bytes, host: int, size: int, length: int
) -> Head | Bad | Slow:
    """Take out what does not go to the engine; *host* is where its line begins."""
    stop = block.find(b"\r\n", host + 2)
    block = block[:host] + block[stop:]
    lower = lower[:host] + lower[stop:]
    close = False
    at = lower.find(b"\r\nconnection:")
    if at >= 0:
        stop = lower.find(b"\r\n", at + 2)
        word = _CONNECTION.get(lower[at + 13 : stop].strip(b" \t"))
        if word is None:
            return Slow(size, length)
        close = word
        block = block[:at] + block[stop:]
        lower = lower[:at] + lower[stop:]
        if b"\r\nconnection:" in lower:
            return Slow(size, length)
    request_id: bytes | None = None
    at = lower.find(b"\r\nx-request-id:")
    if at >= 0:
        stop = lower.find(b"\r\n", at + 2)
        given = block[at + 15 : stop].strip(b" \t")
        request_id = given if _REQUEST_ID.fullmatch(given) else None
        block = block[:at] + block[stop:]
        lower = lower[:at] + lower[stop:]
        if b"\r\nx-request-id:" in lower:
            return Slow(size, length)
    if b"\r\nx-gpuserve-" in lower:
        return Slow(size, length)
    origin: str | None = None
    at = lower.find(b"\r\norigin:")
    if at >= 0:
        stop = lower.find(b"\r\n", at + 2)
        page = block[at + 9 : stop].strip(b" \t")
        if not page.isascii() or lower.find(b"\r\norigin:", stop) >= 0:
            return Slow(size, length)
        origin = page.decode("ascii")
    for name in _DROPPED:
        while (at := lower.find(name)) >= 0:
            stop = lower.find(b"\r\n", at + 2)
            block = block[:at] + block[stop:]
            lower = lower[:at] + lower[stop:]
    return Head(path, block[2:], size, length, close, request_id, origin=origin)


def _elsewhere(lower: bytes, size: int) -> Slow:
    """Say where a request ends that is not ours; UNSURE unless it is plain."""
    lengths = lower.count(b"\r\ncontent-length:")
    if b"\r\nupgrade:" in lower or lengths > 1:
        return _DOUBTFUL
    if b"\r\ntransfer-encoding:" in lower:
        coded = _coded(lower, size)
        return coded if isinstance(coded, Slow) else _DOUBTFUL
    if not lengths:
        return Slow(size, 0)
    at = lower.find(b"\r\ncontent-length:") + 17
    digits = lower[at : lower.find(b"\r\n", at)].strip(b" \t")
    plain = digits.isdigit() and len(digits) <= _MOST_DIGITS
    return Slow(size, int(digits)) if plain else _DOUBTFUL


def _coded(lower: bytes, size: int) -> Bad | Slow:
    if b"\r\ncontent-length:" in lower:
        return Bad(400, "Content-Length and Transfer-Encoding exclude each other")
    at = lower.find(b"\r\ntransfer-encoding:") + 20
    stop = lower.find(b"\r\n", at)
    if lower[at:stop].strip(b" \t") != b"chunked" or b"\r\ntransfer-encoding:" in lower[stop:]:
        return Bad(400, "Transfer-Encoding must be chunked and stand once")
    hosts = lower.count(b"\r\nhost:")
    return Slow(size, CHUNKED) if hosts == 1 else Bad(400, "there must be one Host")


def _unfinished(data: bytes) -> Bad | Slow | None:
    if len(data) > HEAD_BYTES:
        return Bad(431, f"the head of the request is larger than {HEAD_BYTES >> 10} KiB")
    # Who does not begin like a request, or ends lines in another way, waits for an answer.
    if not 65 <= data[0] <= 90 or data.count(b"\n") != data.count(b"\r\n"):
        return _DOUBTFUL
    return None


def _fault(block: bytes) -> str:
    """Say which line of *block* is none."""
    for line in block.split(b"\r\n"):
        if _FIELDS.fullmatch(line + b"\r\n") is None:
            told = line[:60].decode("ascii", "backslashreplace")
            return f"{told!r} is not a line of a head"
    return "this is no head of a request"
