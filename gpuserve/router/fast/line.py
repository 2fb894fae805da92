"""One connection to an upstream: a request goes out, its answer is passed on as it comes."""

import asyncio
from typing import Protocol, cast

from gpuserve.router.answerhead import (
    CHUNKED,
    HEAD_BYTES,
    UNTIL_CLOSE,
    AnswerHead,
    AnswerHeads,
)
from gpuserve.router.chunks import BEGINNINGS, Chunks
from gpuserve.router.links import Tally

# An answer of known length up to this is sent in one piece, so that an engine that dies in the
# middle of it is still a 502.
WHOLE_BYTES = 64 << 10

# What is expected next: nothing; the first byte of an answer; the rest of its head; the rest of
# a short body; the rest of a body, by its framing.
_IDLE, _WAITING, _HEAD, _WHOLE, _LENGTH, _CHUNKED, _UNTIL_CLOSE = range(7)
_BEGIN = b"HTTP/1."

_END_OF_EVENT = b"\n\n\r\n"
_BEGINNING, _ENDING = slice(5), slice(-4, None)


class Receiver(Protocol):
    """Who gets the answer: a client's connection."""

    transport: asyncio.Transport

    def answer_whole(self, head: AnswerHead, body: bytes) -> None:
        """Send an answer; `answered` follows."""

    def answer_begins(self, head: AnswerHead, body: bytes) -> None:
        """Send the head of an answer and what there is of its body; the rest is written here."""

    def answered(self) -> None:
        """Learn that the answer is complete and written."""

    def died(self, why: str, *, untouched: bool) -> None:
        """Learn that no answer came; *untouched*: nothing, over a connection used before."""

    def cut(self, mending: bytes | None) -> None:
        """Learn that an answer ends in the middle; see Line.mending."""


class Owner(Protocol):
    """Where a connection belongs: its pool."""

    tally: Tally
    heads: AnswerHeads

    def opened(self, line: "Line") -> None:
        """Note a connection."""

    def lost(self, line: "Line") -> None:
        """Forget one."""

    def give_back(self, line: "Line") -> None:
        """Take one that is free again."""


class Line(asyncio.Protocol):
    """A connection of *pool*; `client` is who waits for an answer on it, None while idle."""

    __slots__ = (
        "_chunks",
        "_clean",
        "_events",
        "_head",
        "_heads",
        "_held",
        "_keep",
        "_left",
        "_out",
        "_paused",
        "_phase",
        "_pool",
        "_tally",
        "_used",
        "client",
        "idle_since",
        "transport",
    )

    def __init__(self, pool: Owner) -> None:
        self._pool = pool
        self._tally = pool.tally
        self._heads = pool.heads
        self._phase = _IDLE
        self._used = False
        self._paused = False
        self._held = b""
        self._left = 0
        self._keep = False
        self._events = False
        self._clean = True
        self._head: AnswerHead | None = None
        self._chunks: Chunks | None = None
        # The client's, while the next byte begins a chunk and an event.
        self._out: asyncio.Transport | None = None
        self.client: Receiver | None = None
        self.idle_since = 0
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)

    def send(self, client: Receiver, head: bytes, body: memoryview) -> None:
        """Send a large request, in two parts, for *client*."""
        self.expect(client)
        self.transport.write(head)
        self.transport.write(body)

    def expect(self, client: Receiver) -> None:
        """Take what comes for the answer to the request of *client*, who sends it."""
        self.client = client
        self._phase = _WAITING

    def leave(self) -> None:
        """Break the connection because nobody wants the answer any more."""
        self.client = self._out = None
        self.transport.abort()

    def pause(self) -> None:
        """Read no more until the client has taken what was sent."""
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register with the pool."""
        self.transport = cast("asyncio.Transport", transport)
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        """Pass on what came."""
        out = self._out
        size = len(data)
        # Nearly always it is a token, one chunk that ends with an event. What is looked up for
        # one is not in the processor's caches, so little is, and there is nothing to note.
        if out is not None:
            try:
                whole = BEGINNINGS[data[_BEGINNING]]
            except KeyError:  # as it ends
                whole = 0
            if whole == size and data[_ENDING] == _END_OF_EVENT:
                out.write(data)
                self._tally.bytes += size
                return
        client = self.client
        if client is None:
            self.transport.abort()  # bytes that nobody asked for
            return
        self._tally.bytes += size
        phase = self._phase
        if phase == _CHUNKED:
            self._pass_chunked(client, data, None)
        elif phase == _LENGTH:
            self._pass_length(client, data)
        elif phase == _UNTIL_CLOSE:
            client.transport.write(data)
        elif phase == _WHOLE:
            self._held += data
            self._pass_whole(client)
        else:
            self._begin(client, data)

    def eof_received(self) -> None:
        """End an answer that ends with its connection; others end in connection_lost."""
        if self._phase == _UNTIL_CLOSE and self.client is not None:
            self._finish(self.client, keep=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the client, if one waits."""
        self._pool.lost(self)
        client = self.client
        if client is None:
            return
        self.client = self._out = None
        why = f"{type(exc).__name__}: {exc}" if exc else "it closed the connection"
        if self._phase == _WAITING:
            client.died(why, untouched=self._used)
        elif self._phase <= _WHOLE:
            client.died(why, untouched=False)
        else:
            client.cut(self._mending())

    def _begin(self, client: Receiver, data: bytes) -> None:
        if self._held:
            data = self._held + data
            self._held = b""
        known = self._heads.begins(data)
        if known is not None:
            head, size = known
            data = data[size:]
        else:
            read = self._read(client, data)
            if read is None:
                return
            head, data = read
        length = head.length
        if length == len(data):
            client.answer_whole(head, data)
            self._finish(client, keep=head.keep)
            return
        self._keep = head.keep
        self._events = head.events
        if length == CHUNKED:
            self._phase = _CHUNKED
            self._chunks = Chunks()
            self._clean = True
            self._pass_chunked(client, data, head)
        elif length == UNTIL_CLOSE:
            self._phase = _UNTIL_CLOSE
            client.answer_begins(head, data)
        elif length <= WHOLE_BYTES:
            self._phase = _WHOLE
            self._head, self._held, self._left = head, data, length
            self._pass_whole(client)
        else:
            self._phase = _LENGTH
            self._left = length
            client.answer_begins(head, b"")
            self._pass_length(client, data)

    def _read(self, client: Receiver, data: bytes) -> tuple[AnswerHead, bytes] | None:
        """Return the head that *data* begins with, and what follows; None until it is whole."""
        self._phase = _HEAD
        while True:
            end = data.find(b"\r\n\r\n", 0, HEAD_BYTES)
            if end < 0:
                if len(data) >= HEAD_BYTES or not _BEGIN.startswith(data[:7]):
                    self._garbage(client)
                else:
                    self._held = data
                return None
            head = self._heads.read(data[: end + 2])
            if head is None or head.status == 101:
                self._garbage(client)
                return None
            data = data[end + 4 :]
            if head.status >= 200:
                return head, data

    def _pass_whole(self, client: Receiver) -> None:
        held = self._held
        missing = self._left - len(held)
        head = self._head
        if missing > 0 or head is None:
            return
        self._held = b""
        self._head = None
        if missing < 0:
            held = held[: self._left]
        client.answer_whole(head, held)
        self._finish(client, keep=self._keep and not missing)

    def _pass_length(self, client: Receiver, data: bytes) -> None:
        left = self._left - len(data)
        if left > 0:
            self._left = left
            client.transport.write(data)
            return
        client.transport.write(data if not left else data[:left])
        self._finish(client, keep=self._keep and not left)

    def _pass_chunked(self, client: Receiver, data: bytes, head: AnswerHead | None) -> None:
        chunks = self._chunks
        assert chunks is not None
        out = chunks.feed(data) if data else b""
        if out:
            self._clean = out.endswith(_END_OF_EVENT)
        self._out = client.transport if self._clean and chunks.between else None
        if head is not None:
            client.answer_begins(head, out)
        elif out:
            client.transport.write(out)
        if chunks.done:
            self._finish(client, keep=self._keep and not chunks.excess)
        elif chunks.failed:
            self.client = self._out = None
            client.cut(self._mending())
            self.transport.abort()

    def _finish(self, client: Receiver, *, keep: bool) -> None:
        self.client = self._out = None
        self._phase = _IDLE
        self._chunks = None
        self._used = True
        if self._paused:
            self.resume()
        transport = self.transport
        if keep and not transport.get_write_buffer_size() and not transport.is_closing():
            self._pool.give_back(self)
        else:
            transport.abort()
        client.answered()

    def _garbage(self, client: Receiver) -> None:
        self.client = None
        self.transport.abort()
        client.died("it does not speak HTTP", untouched=False)

    def _mending(self) -> bytes | None:
        """Return what brings the client to the end of an event, None where that cannot be done."""
        if self._phase != _CHUNKED or not self._events or self._chunks is None:
            return None
        pad = self._chunks.pad()
        if pad is None or (not pad and self._clean):
            return pad
        return pad + b"2\r\n\n\n\r\n"
