"""One client's connection: requests are taken in whole, and answered in order."""

import asyncio
from typing import cast

from gpuserve.router import limits
from gpuserve.router.fast.exchange import Exchange
from gpuserve.router.fast.loan import Loan
from gpuserve.router.fast.shared import Carrier
from gpuserve.router.head import Bad, Head, Slow, Template, read_head
from gpuserve.routing.choose import Refusal

# What a client may send ahead of the answers that it waits for, before it is read no further.
_AHEAD_BYTES = 64 << 10
# Longer than what stands before us keeps its connections, so that it is never we who close one
# at the moment of the next request; aiohttp's server keeps as long.
_IDLE_S = 3600
# A client whose heads all differ in more than their length is not learnt from again and again.
_MOST_TEMPLATES = 3

# What goes on: a head is awaited; a body; an answer; aiohttp has the connection; nothing more is
# answered.
_HEAD, _BODY, _ANSWER, _LENT, _LINGERING = range(5)


class Client(asyncio.Protocol):
    """The connection of a client of *carrier*."""

    __slots__ = (
        "_ahead",
        "_begun",
        "_carrier",
        "_data",
        "_exchange",
        "_head",
        "_loan",
        "_missing",
        "_paused",
        "_phase",
        "_pieces",
        "_template",
        "_templates",
        "deadline",
        "transport",
    )

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._exchange = Exchange(carrier, self)
        self._phase = _HEAD
        self._data = b""  # of a head that is not whole
        self._begun = False  # a part of a head has come
        self._template: Template | None = carrier.template
        self._templates = 0
        self._head: Head | None = None  # of a request whose body is not whole
        self._pieces: list[bytes] = []  # of that request
        self._missing = 0  # bytes of its body
        self._ahead = b""
        self._paused = False  # it is read no further
        self._loan: Loan | None = None
        self.deadline = 0  # on the carrier's clock; 0 for none
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request."""
        self.transport = self._exchange.transport = cast("asyncio.Transport", transport)
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
        if self._loan is not None:
            self._loan.handler.eof_received()
        else:
            self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop what goes on for the client."""
        self._leave()
        self._carrier.lost(self)
        loan = self._loan
        if loan is not None:
            self._loan = None
            loan.end(exc)

    def pause_writing(self) -> None:
        """Read no more of the answer."""
        self._exchange.pause()
        if self._loan is not None:
            self._loan.handler.pause_writing()

    def resume_writing(self) -> None:
        """Read the answer on."""
        self._exchange.resume()
        if self._loan is not None:
            self._loan.handler.resume_writing()

    # Taking requests in.

    def _take(self, data: bytes) -> None:
        """Take requests from the beginning of *data*, until one keeps us waiting."""
        carrier = self._carrier
        exchange = self._exchange
        bodies = carrier.bodies
        while data and self._phase == _HEAD:
            template = self._template
            head = template.read(data) if template is not None else None
            if head is None:
                head = self._read(data)
                if head is None:
                    return
            total = head.size + head.length
            size = len(data)
            ahead = b""
            if size != total:
                if size < total:
                    self._await_body(data, head, total - size)
                    return
                ahead = data[total:]
                data = data[:total]
            held = bodies.held_bytes + total
            most = carrier.tables.limits
            if held > most.max_buffered_bytes or total > most.max_body_bytes:
                if not self._hold(total, head):
                    return
            else:  # the same, without the call
                bodies.held_bytes = held
                exchange.held_bytes = total
            self._phase = _ANSWER
            self.deadline = 0
            self._begun = False
            exchange.begin(head, data)
            data = ahead
        if data:
            self._keep_ahead(data)

    def _read(self, data: bytes) -> Head | None:
        """Return the head that *data* begins with, None for anything else, which is dealt with."""
        read = read_head(data)
        if isinstance(read, Head):
            if read.request_id is None and self._templates < _MOST_TEMPLATES:
                self._templates += 1
                self._template = self._carrier.template = Template(data, read)
            return read
        if isinstance(read, Bad):
            long = read.status == 431
            refusal = limits.head_too_large() if long else limits.no_request(read.message)
            self._refuse(refusal, None)
        elif isinstance(read, Slow):
            self.hand_over(data, read.size, read.length)
        else:
            self._data = data
            if not self._begun:
                self._begun = True
                most = self._carrier.tables.limits
                self.deadline = self._carrier.now + int(most.head_timeout_s) + 1
        return None

    def _await_body(self, data: bytes, head: Head, missing: int) -> None:
        if self._hold(len(data), head):
            self._head, self._pieces, self._missing = head, [data], missing
            self._phase = _BODY
            most = self._carrier.tables.limits
            self.deadline = self._carrier.now + int(most.body_timeout_s) + 1

    def _take_body(self, data: bytes) -> None:
        head = self._head
        assert head is not None
        missing = self._missing - len(data)
        self._missing = missing
        ahead = b""
        if missing < 0:
            ahead = data[missing:]
            data = data[:missing]
        if not self._hold(len(data), head):
            return
        self._pieces.append(data)
        if missing > 0:
            return
        whole = b"".join(self._pieces)
        self._forget()
        self._phase = _ANSWER
        self.deadline = 0
        self._begun = False
        self._exchange.begin(head, whole)
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
        most = carrier.tables.limits
        if head.length > most.max_body_bytes:
            self._refuse(limits.body_too_large(most.max_body_bytes), head)
            return False
        bodies = carrier.bodies
        held = bodies.held_bytes + size
        if held > most.max_buffered_bytes:
            self._refuse(limits.bodies_full(most.max_buffered_bytes), head)
            return False
        bodies.held_bytes = held
        self._exchange.held_bytes += size
        return True

    def _forget(self) -> None:
        """Forget the pieces of a request."""
        self._head = None
        self._pieces = []
        self._data = b""

    def _leave(self) -> None:
        """Stop what goes on for a client that is gone."""
        self._exchange.leave()
        self._forget()
        if self._phase != _LENT:
            self._phase = _LINGERING

    def _refuse(self, refusal: Refusal, head: Head | None) -> None:
        """Answer what was not read to its end; nothing can follow it."""
        self._forget()
        self._phase = _LINGERING
        self.deadline = self._carrier.now + int(limits.LINGER_S)
        self._exchange.refuse(refusal, head)
        # A close with bytes unread would reach the client before the answer.
        self.transport.write_eof()

    # Answered.

    def next_request(self) -> None:
        """Take the next request, or close."""
        exchange = self._exchange
        if exchange.held_bytes:
            exchange.let_go()
        # An answer that began before the worker was told to end could not say that it is the last.
        if exchange.closing or self._carrier.draining:
            self._phase = _LINGERING
            self._carrier.outbox.flush()
            self.transport.close()
            return
        self._phase = _HEAD
        self.deadline = self._carrier.now + _IDLE_S
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        if self._ahead:
            ahead = self._ahead
            self._ahead = b""
            self._take(ahead)

    def answer_cut(self) -> None:
        """Take nothing more: the answer is not complete."""
        self._phase = _LINGERING

    # For the worker.

    def sweep(self) -> None:
        """End what took longer than it may."""
        if self._phase == _LINGERING or (self._phase == _HEAD and not self._data):
            self.transport.abort()
            return
        most = self._carrier.tables.limits
        if self._phase == _HEAD:
            self._refuse(limits.head_late(most.head_timeout_s), None)
        else:
            self._refuse(limits.body_late(most.body_timeout_s), self._head)

    def drain(self) -> None:
        """Close the connection if nothing goes on."""
        if self._phase == _HEAD and not self._data:
            self._carrier.outbox.flush()
            self.transport.close()

    def abort(self) -> None:
        """Close the connection, whatever goes on."""
        self.transport.abort()

    # aiohttp.

    def hand_over(self, data: bytes, size: int, length: int) -> None:
        """Lend the connection to aiohttp, for the request *data* and what follows it.

        Its head is *size* bytes long, its body *length*, CHUNKED or UNSURE.
        """
        self._exchange.let_go()
        self._carrier.outbox.flush()
        self._phase = _LENT
        self._begun = False
        self.deadline = 0
        self._loan = loan = Loan(self.transport, self._carrier.slow_side(), length)
        if self._exchange.full:
            loan.handler.pause_writing()
        self._returned(loan, loan.begin(data, size))

    def _lend(self, data: bytes) -> None:
        """Give aiohttp what belongs to its request, and take the connection back behind that."""
        loan = self._loan
        assert loan is not None
        self._returned(loan, loan.feed(data))

    def _returned(self, loan: Loan, data: bytes) -> None:
        if not data and not loan.broken:
            return
        answering = loan.answering
        loan.end()
        self._loan = None
        self._phase = _HEAD
        if not self.transport.is_reading():
            self.transport.resume_reading()
        if data:
            self._take(data)
        elif answering:
            self.transport.abort()
        else:
            # aiohttp would wait for the end of that body.
            message = "a chunk of its body does not say its size, or has another"
            self._refuse(limits.no_request(message), None)
