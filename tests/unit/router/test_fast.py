"""The fast path without sockets: every split, every cut, and nothing left behind."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from aiohttp import web

from gpuserve.plan import Capabilities
from gpuserve.profile.spec import LimitsSpec, RoutingSpec
from gpuserve.router.chunks import Chunks
from gpuserve.router.counts import Buckets
from gpuserve.router.fast.client import Client
from gpuserve.router.fast.handover import is_idle
from gpuserve.router.fast.line import Line
from gpuserve.router.fast.outbox import Outbox
from gpuserve.router.fast.pool import Pool
from gpuserve.router.fast.server import FastServer
from gpuserve.router.fast.ways import Way
from gpuserve.router.limits import Bodies
from gpuserve.router.links import Links
from gpuserve.router.server import PublicServer
from gpuserve.router.tablefile import TableFile
from gpuserve.routing.choose import Refusal
from gpuserve.routing.table import RoutingTable, Upstream

PATH = "/v1/chat/completions"
BODY = b'{"model":"m","messages":[]}'
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nX-A: 1\r\n"
    b"X-Request-Id: mine\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
SENT = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\n"
    b"Content-Length: %d\r\nx-request-id: mine\r\n\r\n%b" % (len(BODY), BODY)
)
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
EVENTS = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    b"a\r\ndata: {}\n\n\r\n3\r\ndat\r\n7\r\na: {}\n\n\r\n0\r\n\r\n"
)
PLAIN = EVENTS.replace(b"text/event-stream", b"application/json")
LONG = b"HTTP/1.1 200 OK\r\ncontent-length: 70000\r\n\r\n" + b"x" * 70000


class Wire(asyncio.Transport):
    """A transport that keeps what is written to it, *outbox* included when one looks."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__()
        self._outbox = outbox
        self._written = b""
        self.closing = self.aborted = self.paused = self.ended = False

    def write(self, data: Any) -> None:
        assert not self.closing
        self._written += bytes(data)

    @property
    def written(self) -> bytes:
        self._outbox.flush()
        return self._written

    @written.setter
    def written(self, data: bytes) -> None:
        self._outbox.flush()
        self._written = data

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_reading(self) -> bool:
        return not self.paused

    def get_write_buffer_size(self) -> int:
        return 0


@dataclass
class Bench:
    """A server, one client of it, and one idle connection to its only upstream."""

    server: FastServer
    table: RoutingTable
    pool: Pool
    client: Client
    near: Wire
    line: Line
    far: Wire

    def open(self) -> None:
        self.near, self.client = Wire(self.server.outbox), self.server()
        self.client.connection_made(self.near)

    def idle(self) -> None:
        self.far, self.line = Wire(self.server.outbox), Line(self.pool)
        self.line.connection_made(self.far)
        self.pool.give_back(self.line)

    def lose(self, error: Exception | None = None) -> None:
        """The upstream's connection ends."""
        if not error:
            self.line.eof_received()
        self.line.connection_lost(error)

    def nothing_left(self) -> bool:
        tally = self.pool.tally
        return tally.in_flight == 0 and self.server.bodies.held_bytes == 0


@pytest.fixture
async def bench() -> Bench:
    tables = TableFile(Path("/nonexistent"))
    m = Upstream(
        name="m",
        names=("m",),
        url="http://localhost",
        socket="/nonexistent/m.sock",
        state="Ready",
        routable=True,
        capabilities=Capabilities(chat=True),
    )
    table = RoutingTable(instance="", generation=1, routing=RoutingSpec(), upstreams=(m,))
    tables.take(table)

    async def slowly(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=f"slow side: {request.method}")

    refused: list[Refusal] = []
    server = FastServer(tables, Links(), Bodies(), PublicServer(slowly, LimitsSpec, refused.append))
    way = server.decide(PATH, BODY, 0)
    assert isinstance(way, Way)
    new: Any = None
    bench = Bench(server, table, way.lane.pool, client=new, near=new, line=new, far=new)
    bench.open()
    bench.idle()
    return bench


def splits(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    return ((raw[:at], raw[at:]) for at in range(1, len(raw)))


def told(raw: bytes) -> tuple[bytes, bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    return head, body


async def test_a_request_split_at_any_byte_reaches_the_engine_as_one(bench: Bench) -> None:
    for first, second in splits(REQUEST):
        bench.client.data_received(first)
        assert bench.far.written == b""
        bench.client.data_received(second)
        assert bench.far.written == SENT
        bench.far.written = b""
        bench.line.data_received(WHOLE)
        assert told(bench.near.written)[1] == b"hello"
        bench.near.written = b""
    assert bench.nothing_left()
    assert bench.pool.tally.reused == len(REQUEST) - 1


async def test_a_query_and_a_page_are_carried_and_do_not_stick_to_the_next_request(
    bench: Bench,
) -> None:
    plain = REQUEST.replace(b"X-Request-Id: mine\r\n", b"")
    page = plain.replace(b"X-A: 1", b"Origin: https://a").replace(b"ons HTTP", b"ons?b=%20 HTTP")
    for raw in (page, plain, page):
        for _ in range(2):  # the second time by the template of the first
            bench.far.written = bench.near.written = b""
            bench.client.data_received(raw)
            first, _, fields = told(bench.far.written)[0].partition(b"\r\n")
            assert first == raw.partition(b"\r\n")[0]
            assert (b"Origin: https://a\r\n" in fields) == (raw is page)
            bench.line.data_received(WHOLE)
            assert bench.near.written.endswith(b"hello")
    assert bench.client._loan is None
    allowing = replace(bench.table, generation=2, allowed_origins=("https://a",))
    assert bench.server.tables.take(allowing)
    for raw in (page, page.replace(b"{", b"x"), page.replace(b": 27", b": 999999999")):
        bench.near.written = b""
        bench.client.data_received(raw)
        if bench.line.client:
            bench.line.data_received(WHOLE)
        assert b"\r\nAccess-Control-Allow-Origin: https://a\r\n" in bench.near.written, raw
    odd = plain.replace(b"ons HTTP", b"ons?b=# HTTP")
    bench.open()
    bench.client.data_received(odd)
    assert bench.client._loan is not None


@pytest.mark.parametrize("answer", [WHOLE, EVENTS, PLAIN])
async def test_an_answer_split_at_any_byte_reaches_the_client_unchanged(
    bench: Bench, answer: bytes
) -> None:
    for first, second in splits(answer):
        bench.client.data_received(REQUEST)
        bench.line.data_received(first)
        bench.line.data_received(second)
        head, body = told(bench.near.written)
        assert body == told(answer)[1]
        assert b"x-gpuserve-model: m\r\n" in head
        assert head.endswith(b"x-request-id: mine")
        bench.near.written = b""
    assert bench.nothing_left()
    assert bench.pool.take() is bench.line


@pytest.mark.parametrize("answer", [WHOLE, EVENTS, PLAIN, LONG[:200]])
@pytest.mark.parametrize("error", [None, ConnectionResetError()])
async def test_an_upstream_that_dies_at_any_byte_is_never_taken_for_one_that_finished(
    bench: Bench, answer: bytes, error: Exception | None
) -> None:
    for at in range(1, len(answer)):
        bench.open()
        bench.pool.lost(bench.line)
        bench.idle()
        bench.client.data_received(REQUEST)
        bench.line.data_received(answer[:at])
        bench.lose(error)
        head, body = told(bench.near.written)
        if at < len(told(answer)[0]) + 4 or answer is WHOLE:
            assert head.startswith(b"HTTP/1.1 502 Bad Gateway\r\n"), at
            assert b'"code": "upstream_died"' in body
            assert not bench.near.closing
        elif answer is EVENTS:
            chunks = Chunks()
            events = chunks.feed(body)
            assert chunks.done, (at, body)
            assert not chunks.excess
            assert events.count(b"upstream_died") == 1
            last = [line for line in events.split(b"\n\n") if b"data" in line][-1]
            assert b"data: {" in last
            assert b"upstream_died" in last
            assert bench.near.closing
        else:
            assert not body.endswith(b"0\r\n\r\n")
            assert bench.near.aborted
        assert bench.nothing_left()
        assert bench.pool.take() is None


async def test_a_client_that_leaves_at_any_moment_takes_the_engines_work_along(
    bench: Bench,
) -> None:
    moments = [(len(REQUEST), at) for at in range(len(EVENTS))]
    moments += [(at, 0) for at in range(len(REQUEST))]
    for taken, answered in moments:
        bench.client.data_received(REQUEST[:taken])
        if answered:
            bench.line.data_received(EVENTS[:answered])
        bench.client.connection_lost(None)
        assert bench.far.aborted == (taken == len(REQUEST))
        if bench.far.aborted:
            bench.line.connection_lost(None)
            bench.idle()
        assert bench.nothing_left()
        bench.open()
    assert bench.pool.tally.failures == 0


async def test_a_token_passes_at_once_and_one_that_is_not_whole_does_not(bench: Bench) -> None:
    head, _ = told(EVENTS)
    token = b"data: " + b"x" * 300 + b"\n\n"
    chunk = b"%x\r\n%b\r\n" % (len(token), token)
    for kept, pieces in (
        (True, [chunk, chunk, chunk + chunk, chunk[:40], chunk[40:], chunk, b"0\r\n\r\n"]),
        (True, [chunk, chunk + b"0\r\n\r\n"]),
        (False, [chunk, chunk[:-4] + b"\n\n\n\n"]),
        (False, [chunk, b"fff" + chunk[3:], chunk]),
        (False, [chunk, b"130" + chunk[3:], chunk]),
    ):
        bench.near.written = b""
        bench.client.data_received(REQUEST)
        bench.line.data_received(head + b"\r\n\r\n")
        for piece in pieces:
            bench.line.data_received(piece)
        if not kept:
            bench.lose()
        body = told(bench.near.written)[1]
        assert (body == b"".join(pieces)) == kept
        assert body.startswith(chunk)
        assert bench.near.closing != kept
        if kept:
            assert bench.line.client is None
            assert bench.pool.tally.in_flight == 0
        else:
            assert b"upstream_died" in body
            bench.open()
            bench.idle()
    assert bench.nothing_left()


async def test_thousands_of_random_disconnects_leave_nothing_behind(bench: Bench) -> None:
    chance = random.Random(7)
    for _ in range(5000):
        answer = chance.choice([WHOLE, EVENTS, PLAIN])
        bench.client.data_received(REQUEST[: chance.choice([len(REQUEST), 30])])
        bench.line.data_received(answer[: chance.randrange(1, len(answer) + 1)]) if (
            bench.line.client
        ) else None
        match chance.randrange(3):
            case 0 if bench.line.client:
                bench.lose(chance.choice([None, ConnectionResetError()]))
                bench.idle()
            case 1:
                bench.client.eof_received()
        bench.client.connection_lost(None)
        if bench.far.closing:
            bench.line.connection_lost(None)
            bench.pool.take()
            bench.idle()
        bench.open()
    assert bench.nothing_left()
    assert len(bench.pool._lines) == len(bench.pool._idle) == 1
    bench.client.connection_lost(None)
    assert not bench.server._clients


async def test_two_requests_at_once_are_answered_one_after_the_other(bench: Bench) -> None:
    bench.client.data_received(REQUEST + REQUEST.replace(b"mine", b"next"))
    assert bench.far.written == SENT
    bench.line.data_received(WHOLE)
    assert bench.far.written == SENT + SENT.replace(b"mine", b"next")
    bench.line.data_received(EVENTS)
    assert bench.near.written.index(b"id: mine") < bench.near.written.index(b"id: next")
    assert bench.nothing_left()


async def test_who_sends_far_ahead_is_read_no_further_until_answered(bench: Bench) -> None:
    bench.client.data_received(REQUEST)
    bench.client.data_received(REQUEST)
    assert not bench.near.paused
    bench.client.data_received(b"POST " + b"x" * (64 << 10))
    assert bench.near.paused
    bench.line.data_received(WHOLE)
    assert not bench.near.paused


async def test_a_client_that_does_not_read_stops_the_upstream(bench: Bench) -> None:
    bench.client.data_received(REQUEST)
    bench.line.data_received(LONG[:1000])
    bench.client.pause_writing()
    assert bench.far.paused
    bench.client.resume_writing()
    assert not bench.far.paused
    bench.client.pause_writing()
    bench.line.data_received(LONG[1000:])
    assert not bench.far.paused, "an idle connection must be read, to see it close"
    bench.client.data_received(REQUEST)
    assert bench.far.paused


@pytest.mark.parametrize(("told", "kept_s"), [(None, 3), (75.0, 52), (2.0, 1)])
async def test_an_idle_connection_is_given_up_before_the_engine_does_so(
    bench: Bench, told: float | None, kept_s: int
) -> None:
    (m,) = bench.table.upstreams
    table = replace(bench.table, generation=2, upstreams=(replace(m, keepalive_s=told),))
    assert bench.server.tables.take(table)
    way = bench.server.decide(PATH, BODY, 0)
    assert isinstance(way, Way)
    bench.pool = way.lane.pool
    bench.idle()
    while not bench.far.aborted:
        bench.server.now += 1
        bench.pool.sweep(1.0)
    assert bench.server.now == kept_s


async def test_bytes_that_nobody_asked_for_end_a_kept_connection(bench: Bench) -> None:
    bench.line.data_received(b"HTTP/1.1 200 OK\r\n\r\n")
    assert bench.far.aborted
    bench.line.connection_lost(None)
    assert bench.pool.take() is None


@pytest.mark.parametrize("answer", [WHOLE + b"x", EVENTS + b"x", LONG + b"x"])
async def test_bytes_behind_an_answer_do_not_reach_the_client(bench: Bench, answer: bytes) -> None:
    bench.client.data_received(REQUEST)
    bench.line.data_received(answer)
    assert told(bench.near.written)[1] == told(answer[:-1])[1]
    assert bench.far.aborted
    assert bench.pool.take() is None


async def test_a_request_is_sent_once_more_only_over_a_connection_used_before(
    bench: Bench,
) -> None:
    bench.client.data_received(REQUEST)
    bench.lose()
    assert bench.near.written.startswith(b"HTTP/1.1 502"), "a fresh connection: not again"
    assert bench.pool.tally.retries == 0
    bench.idle()
    for _ in range(2):
        bench.client.data_received(REQUEST)
        bench.line.data_received(WHOLE)
    bench.near.written = b""
    bench.client.data_received(REQUEST)
    bench.lose()
    assert bench.near.written == b""
    assert bench.pool.tally.retries == 1
    async with asyncio.timeout(5):
        while not bench.near.written:  # nobody listens at its socket
            await asyncio.sleep(0)
    assert bench.near.written.startswith(b"HTTP/1.1 502")
    assert bench.nothing_left()


async def test_who_leaves_while_a_connection_is_dialled_is_forgotten(bench: Bench) -> None:
    bench.pool.take()
    bench.client.data_received(REQUEST)
    bench.client.connection_lost(None)
    assert bench.nothing_left()
    await asyncio.sleep(0)
    assert bench.near.written == b""


async def test_an_interim_answer_is_skipped_and_a_switch_of_protocols_is_none(
    bench: Bench,
) -> None:
    bench.client.data_received(REQUEST)
    bench.line.data_received(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\na: 1\r\n\r\n")
    bench.line.data_received(WHOLE)
    assert bench.near.written.startswith(b"HTTP/1.1 200 OK\r\n")
    bench.client.data_received(REQUEST)
    bench.near.written = b""
    bench.line.data_received(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n")
    assert bench.near.written.startswith(b"HTTP/1.1 502")
    assert bench.far.aborted


async def test_a_connection_goes_to_the_other_side_and_comes_back_with_new_deadlines(
    bench: Bench,
) -> None:
    for _ in range(2):
        bench.near.written = b""
        bench.client.data_received(b"GE")
        assert bench.client.deadline == bench.server.now + 31
        bench.server.now += 20
        bench.client.data_received(b"T /x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert bench.client.deadline == 0, "aiohttp has its own"
        async with asyncio.timeout(5):
            loan = bench.client._loan
            assert loan is not None
            while not (bench.near.written.endswith(b"slow side: GET") and is_idle(loan.handler)):
                await asyncio.sleep(0)
        bench.client.data_received(REQUEST[:2])
        assert bench.client.deadline == bench.server.now + 31
        bench.client.data_received(REQUEST[2:])
        bench.line.data_received(WHOLE)
        assert bench.near.written.endswith(b"hello")
    assert not bench.near.closing
    assert bench.nothing_left()


async def test_a_head_or_a_body_that_is_late_is_refused_and_idleness_is_not(bench: Bench) -> None:
    bench.client.data_received(REQUEST[:30])
    bench.client.sweep()
    assert bench.near.written.startswith(b"HTTP/1.1 408 ")
    assert bench.near.ended
    bench.open()
    bench.client.data_received(REQUEST[:-1])
    assert bench.client.deadline == bench.server.now + 301
    bench.client.sweep()
    assert bench.near.written.startswith(b"HTTP/1.1 408 ")
    assert b"the body of the request" in bench.near.written
    bench.open()
    bench.client.sweep()
    assert bench.near.written == b""
    assert bench.near.aborted
    assert bench.nothing_left()


async def test_what_comes_close_together_is_written_together_in_its_order(bench: Bench) -> None:
    turn: list[Any] = []
    added_s = Buckets((0.5, 2.0))
    outbox = Outbox(turn.append, added_s)
    first, second, gone = (Wire(outbox) for _ in range(3))
    began = perf_counter()
    outbox.put_request(first, b"a", began - 1)
    assert first._written == b"a", "nothing came before it: at once"
    for wire, message in ((second, b"b"), (gone, b"c"), (second, b"d")):
        outbox.put_request(wire, message, began - 1)
    outbox.put_answer(first, b"e", began - 1)
    gone.abort()
    assert (first._written, second._written) == (b"a", b"")
    (flush,) = turn
    flush()
    assert (first._written, second._written, gone._written) == (b"ae", b"bd", b"")
    assert added_s.counts == [0, 4, 0]
    flush()
    assert second._written == b"bd"


async def test_the_last_answer_is_written_before_its_connection_ends(bench: Bench) -> None:
    last = REQUEST.replace(b"keep-alive", b"close")
    for _ in range(2):
        bench.client.data_received(REQUEST)
        bench.line.data_received(WHOLE)
    bench.client.data_received(last)
    bench.line.data_received(WHOLE)
    assert bench.near.closing
    assert bench.near._written.count(b"hello") == 3


@pytest.mark.parametrize(
    "after",
    [b"POST /v1/chat/completions HTTP/1.1\r\nA : b\r\n\r\n", b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"],
)
async def test_an_answer_is_written_before_what_another_request_is_told(
    bench: Bench, after: bytes
) -> None:
    bench.client.data_received(REQUEST + after)
    bench.line.data_received(WHOLE)
    assert bench.near._written.startswith(b"HTTP/1.1 200 OK")
    assert b"hello" in bench.near._written
