"""One request on its way to an engine, and the answer on its way back."""

import asyncio
from time import perf_counter
from typing import cast

from gpuserve.router import cors, headers
from gpuserve.router.answerhead import UNTIL_CLOSE, AnswerHead
from gpuserve.router.apierrors import error_event
from gpuserve.router.fast.line import Line
from gpuserve.router.fast.refusals import refusal_bytes
from gpuserve.router.fast.shared import Asker, Shared
from gpuserve.router.fast.ways import Way
from gpuserve.router.head import Head
from gpuserve.routing.choose import Refusal

# Bodies from here on are not copied behind their heads.
_APART_BYTES = 16 << 10

_ID = b"x-request-id: "
_BLANK = b"\r\n\r\n"


class Exchange:
    """The request that *asker* waits for, and its answer; one after the other on a connection.

    `closing` says that the connection ends with this answer, `full` that the client does not take
    what was sent, `held_bytes` what counts as held of the request.
    """

    __slots__ = (
        "_asker",
        "_began",
        "_data",
        "_dial",
        "_head",
        "_id_line",
        "_line",
        "_retried",
        "_shared",
        "_way",
        "closing",
        "full",
        "held_bytes",
        "transport",
    )

    def __init__(self, shared: Shared, asker: Asker) -> None:
        self._shared = shared
        self._asker = asker
        self._head: Head | None = None
        self._data = b""
        self._way: Way | None = None
        self._line: Line | None = None
        self._dial: asyncio.Task[None] | None = None
        self._retried = False
        self._id_line = b""
        self._began = 0.0
        self.closing = False
        self.full = False
        self.held_bytes = 0
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)

    # The request.

    def begin(self, head: Head, data: bytes) -> None:
        """Send the request *data*, whole and nothing but it, where it belongs."""
        shared = self._shared
        self._began = began = perf_counter()
        self._head = head
        self._data = data
        self._retried = False
        self.closing = head.close or shared.draining
        given = head.request_id
        self._id_line = shared.id_line() if given is None else _ID + given
        way = shared.decide(head.path, data, head.size)
        if not isinstance(way, Way):
            self._undecided(way)
            return
        shared.counts.decision_s.observe(perf_counter() - began)
        self._go(way)

    def _undecided(self, refusal: Refusal | None) -> None:
        if refusal is not None:
            self._shared.counts.refuse(refusal)
            self.write_refusal(refusal, headers.as_lines(headers.refused(refusal)))
            self._asker.next_request()
            return
        head = self._head
        assert head is not None
        self._asker.hand_over(self._data, head.size, head.length)

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
        self._dial = asyncio.get_running_loop().create_task(way.lane.pool.dial(self))

    def _send(self, line: Line, way: Way) -> None:
        head = self._head
        assert head is not None
        self._line = line
        if self.full:
            line.pause()
        begin = way.lane.begin
        if head.query:
            begin = begin.replace(b" HTTP/1.1", head.query + b" HTTP/1.1", 1)
        fields = head.fields
        body = way.body
        if body is not None:
            fields = _with_length(fields, len(body))
        if head.length >= _APART_BYTES:
            apart = memoryview(self._data)[head.size :] if body is None else memoryview(body)
            line.send(self, b"".join((begin, fields, self._id_line, _BLANK)), apart)
            self._shared.counts.added_s.observe(perf_counter() - self._began)
        else:
            if body is None:
                body = self._data[head.size :]
            message = b"".join((begin, fields, self._id_line, _BLANK, body))
            line.expect(self)
            self._shared.outbox.put_request(line.transport, message, self._began)

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
        self._shared.links.darken(way.lane.pool.name, why)
        # Each turn ends with an answer or one more dark upstream.
        other = self._shared.decide(head.path, self._data, head.size)
        if isinstance(other, Way):
            self._go(other)
        else:
            self._undecided(other)

    # The answer.

    def answer_whole(self, head: AnswerHead, body: bytes) -> None:
        """Send the client a whole answer."""
        now = perf_counter()
        message = self._answer(head, body, now)
        self._shared.outbox.put_answer(self.transport, message, now)

    def answer_begins(self, head: AnswerHead, body: bytes) -> None:
        """Send the client the head of an answer, and what there is of its body."""
        self._shared.outbox.flush()
        self.transport.write(self._answer(head, body, perf_counter()))

    def _answer(self, head: AnswerHead, body: bytes, now: float) -> bytes:
        """Return the head for the client, blank line included, and *body* behind it."""
        way = self._way
        assert way is not None
        shared = self._shared
        lane = way.lane
        shared.bodies.held_bytes -= self.held_bytes
        self.held_bytes = 0
        self._data = b""
        lane.counts.first_byte_s.observe(now - self._began)
        lane.statuses[head.status // 100 - 1] += 1
        lane.decided[0] += 1
        if way.special:
            shared.counts.count_special(way.choice)
        shared.links.lighten(lane.pool.name)
        told = way.told
        if shared.tables.allowed_origins:
            told += self._page()
        end = _BLANK
        if self.closing or head.length == UNTIL_CLOSE or shared.draining:
            self.closing = True
            end = b"\r\nConnection: close\r\n\r\n"
        return b"".join((head.lines, told, self._id_line, end, body))

    def answered(self) -> None:
        """Take the next request, or close."""
        way = self._way
        assert way is not None
        way.lane.pool.tally.in_flight -= 1
        self._line = self._way = None
        self._asker.next_request()

    def died(self, why: str, *, untouched: bool) -> None:
        """Send the request once more where the engine cannot have read it, else answer 502."""
        way = self._way
        assert way is not None
        lane = way.lane
        self._line = None
        if untouched and not self._retried:
            self._retried = True
            lane.pool.tally.retries += 1
            self._dial_up(way)
            return
        self._shared.say_died(lane.pool.name, why)
        lane.pool.tally.failures += 1
        lane.counts.upstream_died += 1
        lane.statuses[4] += 1
        lane.decided[0] += 1
        self._end_of(way)
        message = f"{way.choice.model} ended the connection before it answered"
        refusal = Refusal(status=502, code="upstream_died", message=message)
        self.write_refusal(refusal, way.told)
        self._asker.next_request()

    def cut(self, mending: bytes | None) -> None:
        """End an answer that the upstream did not finish, so that the client sees it."""
        way = self._way
        assert way is not None
        way.lane.pool.tally.failures += 1
        way.lane.counts.upstream_died += 1
        self._end_of(way)
        self._asker.answer_cut()
        if mending is None:
            self.transport.abort()
            return
        message = f"the engine of {way.choice.model} went away in the middle of this answer, "
        message += "which is not complete"
        refusal = Refusal(status=502, code="upstream_died", message=message)
        event = error_event(way.lane.api, refusal)
        self.transport.write(b"%b%x\r\n%b\r\n0\r\n\r\n" % (mending, len(event), event))
        self.transport.close()

    def write_refusal(self, refusal: Refusal, told: bytes) -> None:
        """Answer with an error; *told* are further header lines."""
        path = self._head.path if self._head is not None else ""
        request_id = self._id_line[len(_ID) :]
        told += self._page()
        self._shared.outbox.flush()
        self.transport.write(refusal_bytes(path, refusal, request_id, told, closing=self.closing))

    def refuse(self, refusal: Refusal, head: Head | None) -> None:
        """Answer what was not read to its end, but for its *head* perhaps, with an error."""
        self.closing = True
        self._head = head
        self._id_line = self._shared.id_line()
        self._shared.counts.refuse(refusal)
        self.let_go()
        self.write_refusal(refusal, b"")

    def _page(self) -> bytes:
        """Return what a page is told about what it may read, as lines."""
        origin = self._head.origin if self._head is not None else None
        allowed = self._shared.tables.allowed_origins
        return headers.as_lines(cors.for_page(origin, allowed)) if allowed else b""

    def _end_of(self, way: Way) -> None:
        way.lane.pool.tally.in_flight -= 1
        self._line = self._way = None

    # The client.

    def let_go(self) -> None:
        """Forget the request: it was answered, or will not be sent once more."""
        self._shared.bodies.held_bytes -= self.held_bytes
        self.held_bytes = 0
        self._data = b""

    def leave(self) -> None:
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
        self.let_go()

    def pause(self) -> None:
        """Read no more of the answer: the client does not take it."""
        self.full = True
        if self._line is not None:
            self._line.pause()

    def resume(self) -> None:
        """Read the answer on."""
        self.full = False
        if self._line is not None:
            self._line.resume()


def _with_length(lines: bytes, length: int) -> bytes:
    """Return the *lines* of a head with another Content-Length."""
    at = (b"\r\n" + lines).lower().find(b"\r\ncontent-length:")
    return lines[:at] + b"Content-Length: %d" % length + lines[lines.find(b"\r\n", at) :]
