"""One client's connection: requests are taken in whole, carried, and answered in order."""

import asyncio
from time import perf_counter
from typing import Protocol, cast

from aiohttp import web

from gpuserve.profile.spec import LimitsSpec
from gpuserve.router import headers, limits
from gpuserve.router.answerhead import UNTIL_CLOSE, AnswerHead
from gpuserve.router.apierrors import error_event
from gpuserve.router.chunks import Chunks
from gpuserve.router.counts import Counts
from gpuserve.router.fast.handover import Lent, is_idle
from gpuserve.router.fast.line import Line
from gpuserve.router.fast.refusals import refusal_bytes
from gpuserve.router.fast.ways import Way
from gpuserve.router.head import CHUNKED, UNSURE, Bad, Head, Slow, Template, read_head
from gpuserve.router.limits import Bodies
from gpuserve.router.links import Links
from gpuserve.routing.choose import Refusal

# What a client may send ahead of the answers that it waits for, before it is read no further.
_AHEAD_BYTES = 64 << 10
# Longer than what stands before us keeps its connections, so that it is never we who close one
# at the moment of the next request; aiohttp's server keeps as long.
_IDLE_S = 3600
# A client whose heads all differ in more than their length is not learnt from again and again.
_MOST_TEMPLATES = 3
# Bodies from here on are not copied behind their heads.
_APART_BYTES = 16 << 10

_ID = b"x-request-id: "
_BLANK = b"\r\n\r\n"

# What goes on: a head is awaited; a body; a connection to the engine; its answer; aiohttp has
# the connection; nothing more is answered.
_HEAD, _BODY, _DIALLING, _WAITING, _LENT, _LINGERING = range(6)


class Carrier(Protocol):
    """What the connections of one worker share."""

    counts: Counts
    links: Links
    bodies: Bodies
    draining: bool
    template: Template | None  # of the last head that was read
    now: int  # whole seconds

    @property
    def limits(self) -> LimitsSpec:
        """What clients may take."""

    def decide(self, path: str, data: bytes, start: int) -> Way | Refusal | None:
        """Return the way of a request whose body begins at *start*; None for the slow side."""

    def request_id(self) -> bytes:
        """Return a new id."""

    def say_died(self, name: str, why: str) -> None:
        """Log that an upstream ended before it answered."""

    def slow_side(self) -> web.RequestHandler:
        """Return aiohttp's protocol for a connection that is lent to it."""

    def opened(self, client: "Client") -> None:
        """Note a connection."""

    def lost(self, client: "Client") -> None:
        """Forget one."""


class Client(asyncio.Protocol):
    """The connection of a client of *carrier*."""

    __slots__ = (
        "_ahead",
        "_began",
        "_begun",
        "_carrier",
        "_chunks",
        "_closing",
        "_data",
        "_dial",
        "_extent",
        "_full",
        "_handler",
        "_head",
        "_held",
        "_lent",
        "_line",
        "_paused",
        "_phase",
        "_pieces",
        "_request_id",
        "_retried",
        "_template",
        "_templates",
        "_way",
        "deadline",
        "transport",
    )

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._phase = _HEAD
        self._data = b""  # of a head that is not whole, or a request as received
        self._begun = False  # a part of a head has come
        self._template: Template | None = carrier.template
        self._templates = 0
        self._pieces: list[bytes] | None = None  # of a request whose body is not whole
        self._ahead = b""
        self._head: Head | None = None
        self._held = 0  # bytes of this request that count as held
        self._way: Way | None = None
        self._line: Line | None = None
        self._dial: asyncio.Task[None] | None = None
        self._retried = False
        self._request_id = b""
        self._began = 0.0
        self._closing = False
        self._full = False  # the client does not take what was sent
        self._paused = False  # it is read no further
        self._handler: web.RequestHandler | None = None
        self._lent: Lent | None = None
        self._extent = 0  # bytes of the body that aiohttp still gets, CHUNKED or UNSURE
        self._chunks: Chunks | None = None
        self.deadline = 0  # on the carrier's clock; 0 for none
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)

    # The client.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request."""
        self.transport = cast("asyncio.Transport", transport)
        self.deadline = self._carrier.now + _IDLE_S
        self._carrier.opened(self)

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        phase = self._phase
        if phase == _HEAD:
            if self._data:
                data = self._data + data
                self._data = b""
            self._take(data)
        elif phase == _LENT:
            self._lend(data)
        elif phase == _BODY:
            self._take_body(data)
        elif phase != _LINGERING:
            self._ahead += data
            if len(self._ahead) > _AHEAD_BYTES and not self._paused:
                self._paused = True
                self.transport.pause_reading()

    def eof_received(self) -> None:
        """Take the end of what the client sends for its leaving."""
        if self._handler is not None:
            self._handler.eof_received()
        else:
            self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop what goes on for the client."""
        self._leave()
        self._carrier.lost(self)
        handler = self._handler
        if handler is not None:
            self._handler = None
            cast("Lent", self._lent).take_back()
            handler.connection_lost(exc)

    def pause_writing(self) -> None:
        """Read no more of the answer."""
        self._full = True
        if self._handler is not None:
            self._handler.pause_writing()
        elif self._line is not None:
            self._line.pause()

    def resume_writing(self) -> None:
        """Read the answer on."""
        self._full = False
        if self._handler is not None:
            self._handler.resume_writing()
        elif self._line is not None:
            self._line.resume()

    # Taking requests in.

    def _take(self, data: bytes) -> None:
        """Take requests from the beginning of *data*, until one keeps us waiting."""
        carrier = self._carrier
        while data and self._phase == _HEAD:
            template = self._template
            head = template.read(data) if template is not None else None
            if head is None:
                read = read_head(data)
                if not isinstance(read, Head):
                    self._take_other(data, read)
                    return
                head = read
                if head.request_id is None and self._templates < _MOST_TEMPLATES:
                    self._templates += 1
                    self._template = carrier.template = Template(data, head)
            total = head.size + head.length
            size = len(data)
            if size < total:
                self._await_body(data, head, total - size)
                return
            ahead = b""
            if size > total:
                ahead = data[total:]
                data = data[:total]
            if self._hold(total, head):
                self._route(head, data)
            data = ahead
        if data:
            self._keep_ahead(data)

    def _take_other(self, data: bytes, read: Bad | Slow | None) -> None:
        """Take what begins with no request that is carried here."""
        if isinstance(read, Bad):
            long = read.status == 431
            refusal = limits.head_too_large() if long else limits.no_request(read.message)
            self._refuse_for_good(refusal, "")
        elif isinstance(read, Slow):
            self._hand_over(data, read.size, read.length)
        else:
            self._data = data
            if not self._begun:
                self._begun = True
                self.deadline = self._carrier.now + int(self._carrier.limits.head_timeout_s) + 1

    def _await_body(self, data: bytes, head: Head, missing: int) -> None:
        most = self._carrier.limits
        if head.length > most.max_body_bytes:
            self._refuse_body(413, head)
            return
        self._head, self._pieces, self._extent = head, [data], missing
        self._phase = _BODY
        self.deadline = self._carrier.now + int(most.body_timeout_s) + 1
        self._hold(len(data), head)

    def _take_body(self, data: bytes) -> None:
        head, pieces = self._head, self._pieces
        assert head is not None
        assert pieces is not None
        missing = self._extent - len(data)
        self._extent = missing
        ahead = b""
        if missing < 0:
            ahead = data[missing:]
            data = data[:missing]
        if not self._hold(len(data), head):
            return
        pieces.append(data)
        if missing > 0:
            return
        self._pieces = None
        self._route(head, b"".join(pieces))
        if ahead:
            self._take(ahead) if self._phase == _HEAD else self._keep_ahead(ahead)

    def _keep_ahead(self, data: bytes) -> None:
        if self._phase == _LENT:
            self._lend(data)
        elif self._phase != _LINGERING:
            self._ahead = data

    def _hold(self, size: int, head: Head) -> bool:
        """Count *size* bytes as held; whether there is room, else the request is refused."""
        carrier = self._carrier
        most = carrier.limits
        if head.length > most.max_body_bytes:
            self._refuse_body(413, head)
            return False
        self._held += size
        carrier.bodies.held_bytes += size
        if carrier.bodies.held_bytes <= most.max_buffered_bytes:
            return True
        self._refuse_body(429, head)
        return False

    def _let_go(self) -> None:
        """Forget the request: it was answered, or will not be sent once more."""
        self._carrier.bodies.held_bytes -= self._held
        self._held = 0
        self._data = b""
        self._pieces = None

    # Carrying one.

    def _route(self, head: Head, data: bytes) -> None:
        """Send the request *data*, whole and nothing but it, where it belongs."""
        carrier = self._carrier
        self._phase = _WAITING
        self.deadline = 0
        self._began = began = perf_counter()
        self._head = head
        self._data = data
        self._begun = False
        self._retried = False
        self._closing = head.close or carrier.draining
        self._request_id = head.request_id or carrier.request_id()
        way = carrier.decide(head.path, data, head.size)
        if isinstance(way, Way):
            carrier.counts.decision_s.observe(perf_counter() - began)
            self._go(way)
        else:
            self._undecided(way)

    def _undecided(self, refusal: Refusal | None) -> None:
        if refusal is not None:
            self._refuse(refusal)
            return
        head = self._head
        assert head is not None
        self._hand_over(self._data, head.size, head.length)

    def _go(self, way: Way) -> None:
        self._way = way
        pool = way.lane.pool
        tally = pool.tally
        tally.in_flight += 1
        tally.requests += 1
        line = pool.take()
        if line is not None:
            self._send(line, way)
        else:
            self._dial_up(way)

    def _dial_up(self, way: Way) -> None:
        self._phase = _DIALLING
        self._dial = asyncio.get_running_loop().create_task(way.lane.pool.dial(self))

    def _send(self, line: Line, way: Way) -> None:
        head = self._head
        assert head is not None
        self._phase = _WAITING
        self._line = line
        if self._full:
            line.pause()
        fields = head.fields
        body = way.body
        if body is not None:
            fields = _with_length(fields, len(body))
        if head.length >= _APART_BYTES:
            apart = memoryview(self._data)[head.size :] if body is None else memoryview(body)
            parts: tuple[bytes, ...] = (way.lane.begin, fields, _ID, self._request_id, _BLANK)
        else:
            apart = None
            body = self._data[head.size :] if body is None else body
            parts = (way.lane.begin, fields, _ID, self._request_id, _BLANK, body)
        line.send(self, b"".join(parts), apart)
        self._carrier.counts.added_s.observe(perf_counter() - self._began)

    def dialled(self, line: Line) -> None:
        """Send the request over a new connection."""
        self._dial = None
        way = self._way
        assert way is not None
        if line.transport.is_closing():
            self.died("it closed the connection at once", untouched=False)
        else:
            self._send(line, way)

    def refused(self, why: str) -> None:
        """Ask another upstream, if there is one; after a retry it is too late for that."""
        self._dial = None
        way, head = self._way, self._head
        assert way is not None
        assert head is not None
        if self._retried:
            self.died(why, untouched=False)
            return
        self._end_of(way)
        self._carrier.links.darken(way.lane.pool.name, why)
        # Each turn ends with an answer or one more dark upstream.
        other = self._carrier.decide(head.path, self._data, head.size)
        if isinstance(other, Way):
            self._go(other)
        else:
            self._undecided(other)

    # The answer.

    def answer_head(self, head: AnswerHead, body: bytes) -> bytes:
        """Return the head for the client, blank line included, and *body* behind it."""
        way = self._way
        assert way is not None
        carrier = self._carrier
        self._let_go()
        way.lane.counts.first_byte_s.observe(perf_counter() - self._began)
        way.lane.statuses[head.status // 100 - 1] += 1
        way.lane.decided[0] += 1
        if way.special:
            carrier.counts.count_special(way.choice)
        carrier.links.lighten(way.lane.pool.name)
        end = _BLANK
        if self._closing or head.length == UNTIL_CLOSE or carrier.draining:
            self._closing = True
            end = b"\r\nConnection: close\r\n\r\n"
        return b"".join((head.lines, way.told, _ID, self._request_id, end, body))

    def answered(self) -> None:
        """Take the next request, or close."""
        way = self._way
        assert way is not None
        self._end_of(way)
        self._next()

    def died(self, why: str, *, untouched: bool) -> None:
        """Send the request once more where the engine cannot have read it, else answer 502."""
        way = cast("Way", self._way)
        self._line = None
        if untouched and not self._retried:
            self._retried = True
            way.lane.pool.tally.retries += 1
            self._dial_up(way)
            return
        self._carrier.say_died(way.lane.pool.name, why)
        way.lane.pool.tally.failures += 1
        way.lane.counts.upstream_died += 1
        way.lane.statuses[4] += 1
        way.lane.decided[0] += 1
        self._end_of(way)
        refusal = Refusal(
            status=502,
            code="upstream_died",
            message=f"{way.choice.model} ended the connection before it answered",
        )
        self._write_refusal(refusal, way.told)
        self._next()

    def cut(self, mending: bytes | None) -> None:
        """End an answer that the upstream did not finish, so that the client sees it."""
        way = cast("Way", self._way)
        way.lane.pool.tally.failures += 1
        way.lane.counts.upstream_died += 1
        self._end_of(way)
        self._phase = _LINGERING
        if mending is None:
            self.transport.abort()
            return
        refusal = Refusal(
            status=502,
            code="upstream_died",
            message=f"the engine of {way.choice.model} went away in the middle of this answer, "
            "which is not complete",
        )
        event = error_event(way.lane.api, refusal)
        self.transport.write(b"%b%x\r\n%b\r\n0\r\n\r\n" % (mending, len(event), event))
        self.transport.close()

    def _end_of(self, way: Way) -> None:
        way.lane.pool.tally.in_flight -= 1
        self._line = None
        self._way = None

    def _next(self) -> None:
        if self._held:
            self._let_go()
        # An answer that began before the worker was told to end could not say that it is the last.
        if self._closing or self._carrier.draining:
            self._phase = _LINGERING
            self.transport.close()
            return
        self._phase = _HEAD
        self._head = None
        self.deadline = self._carrier.now + _IDLE_S
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        if self._ahead:
            ahead = self._ahead
            self._ahead = b""
            self._take(ahead)

    def _leave(self) -> None:
        """Stop what goes on for a client that is gone, the engine's work first of all."""
        if self._line is not None:
            self._line.leave()
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        way = self._way
        if way is not None:
            way.lane.counts.client_left += 1
            self._end_of(way)
        self._let_go()
        if self._phase != _LENT:
            self._phase = _LINGERING

    # Refusals.

    def _refuse(self, refusal: Refusal) -> None:
        """Answer a request, which was read to its end, with an error."""
        self._carrier.counts.refuse(refusal)
        self._write_refusal(refusal, headers.as_lines(headers.refused(refusal)))
        self._next()

    def _refuse_for_good(self, refusal: Refusal, path: str) -> None:
        """Answer what was not read to its end; nothing can follow it."""
        carrier = self._carrier
        self._closing = True
        self._request_id = carrier.request_id()
        carrier.counts.refuse(refusal)
        self._let_go()
        self._phase = _LINGERING
        self.deadline = carrier.now + int(limits.LINGER_S)
        self._write_refusal(refusal, b"", path)
        # A close with bytes unread would reach the client before the answer.
        self.transport.write_eof()

    def _refuse_body(self, status: int, head: Head) -> None:
        most = self._carrier.limits
        large = status == 413
        refusal = (
            limits.body_too_large(most.max_body_bytes)
            if large
            else limits.bodies_full(most.max_buffered_bytes)
        )
        self._refuse_for_good(refusal, head.path)

    def _write_refusal(self, refusal: Refusal, told: bytes, path: str | None = None) -> None:
        where = path if path is not None else cast("Head", self._head).path
        self.transport.write(
            refusal_bytes(where, refusal, self._request_id, told, closing=self._closing)
        )

    def sweep(self) -> None:
        """End what took longer than it may."""
        if self._phase == _LINGERING or (self._phase == _HEAD and not self._data):
            self.transport.abort()
            return
        most = self._carrier.limits
        if self._phase == _HEAD:
            self._refuse_for_good(limits.head_late(most.head_timeout_s), "")
        else:
            path = "" if self._head is None else self._head.path
            self._refuse_for_good(limits.body_late(most.body_timeout_s), path)

    # For the worker that ends.

    def drain(self) -> None:
        """Close the connection if nothing goes on."""
        if self._phase == _HEAD and not self._data:
            self.transport.close()

    def abort(self) -> None:
        """Close the connection, whatever goes on."""
        self.transport.abort()

    # aiohttp.

    def _hand_over(self, data: bytes, size: int, length: int) -> None:
        """Lend the connection to aiohttp, for the request *data* and what follows it.

        Its head is *size* bytes long, its body *length*, CHUNKED or UNSURE.
        """
        self._let_go()
        self._phase = _LENT
        self._begun = False
        self.deadline = 0
        self._extent = length
        self._chunks = Chunks() if length == CHUNKED else None
        self._lent = Lent(self.transport)
        self._handler = handler = self._carrier.slow_side()
        handler.connection_made(self._lent)
        if self._full:
            handler.pause_writing()
        if length == UNSURE:
            handler.data_received(data)
            return
        handler.data_received(data[:size])
        if len(data) > size:
            self._lend(data[size:])

    def _lend(self, data: bytes) -> None:
        """Give aiohttp what belongs to its request, and take the connection back behind that."""
        handler = cast("web.RequestHandler", self._handler)
        if self._extent > 0:
            part = data[: self._extent]
            self._extent -= len(part)
            handler.data_received(part)
            data = data[len(part) :]
        elif self._chunks is not None:
            self._chunks.feed(data)
            if self._chunks.failed:
                self._refuse_chunks(handler)
                return
            if not self._chunks.done:
                handler.data_received(data)
                return
            excess = self._chunks.excess
            handler.data_received(data[: len(data) - len(excess)])
            self._chunks = None
            self._extent = 0
            data = excess
        if not data:
            return
        if self._extent == 0 and is_idle(handler):
            self._take_back(handler)
            self._take(data)
        else:
            self._extent = UNSURE
            handler.data_received(data)

    def _refuse_chunks(self, handler: web.RequestHandler) -> None:
        """Answer a body that is no chunks; aiohttp waits for its end instead."""
        answering = cast("Lent", self._lent).written
        self._take_back(handler)
        if answering:
            self.transport.abort()
            return
        message = "a chunk of its body does not say its size, or has another"
        self._refuse_for_good(limits.no_request(message), "")

    def _take_back(self, handler: web.RequestHandler) -> None:
        cast("Lent", self._lent).take_back()
        handler.connection_lost(None)
        self._handler = None
        self._lent = None
        self._phase = _HEAD
        if not self.transport.is_reading():
            self.transport.resume_reading()


def _with_length(lines: bytes, length: int) -> bytes:
    """Return the *lines* of a head with another Content-Length."""
    at = (b"\r\n" + lines).lower().find(b"\r\ncontent-length:")
    return lines[:at] + b"Content-Length: %d" % length + lines[lines.find(b"\r\n", at) :]
