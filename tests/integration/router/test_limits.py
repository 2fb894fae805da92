"""What a client may take: bytes, memory and time, and what it hears when it wants more."""

import asyncio
import contextlib
import resource
from dataclasses import replace

import psutil
import pytest

from gpuserve.profile.spec import LimitsSpec
from tests.integration.router.conftest import Box, until
from tests.integration.router.raw import BODY, Wire, ask, asked, head, request, untouched, wire

HEALTH = head(method=b"GET", path=b"/healthz")
KIB = 1 << 10


async def limit(box: Box, **limits: float) -> None:
    box.write(*box.table.upstreams, limits=replace(LimitsSpec(), **limits))  # type: ignore[arg-type]
    await box.reload()


def padded(size: int) -> bytes:
    """Return a body for chat of *size* bytes."""
    return b'{"model":"chat","x":"' + b"x" * (size - 23) + b'"}'


HEADS = {
    "one long line": head(b"X-Long: " + b"a" * 33 * KIB),
    "a long target": head(path=b"/" + b"a" * 33 * KIB),
    "many lines": head(*[b"X-A: b"] * 5000),
    "lines of some length": head(*[b"X-%d: %s" % (n, b"a" * 500) for n in range(70)]),
    "no end": head(*[b"X-A: b"] * 5000)[:-2],
}


async def test_a_head_of_more_than_32_kib_is_a_431(pair: Box) -> None:
    for name, raw in HEADS.items():
        for step in (len(raw), 10_000):
            talk = await wire(pair)
            with contextlib.suppress(ConnectionError):  # it may have closed before the end
                for at in range(0, len(raw), step):
                    await talk.send(raw[at : at + step])
                    await asked(pair, 2)
            answer = await talk.reply()
            assert (name, answer.status, answer.code) == (name, 431, "head_too_large")
            assert answer.headers["connection"] == "close"
            assert await talk.closed()
    assert await untouched(pair)


async def test_a_head_of_almost_32_kib_is_taken(pair: Box) -> None:
    for lines in (
        [b"X-Long: " + b"a" * 32_000],
        [b"X-%d: %s" % (n, b"a" * 300) for n in range(100)],
    ):
        assert (await ask(pair, request(BODY, *lines))).status == 200
    assert len(pair.upstreams["chat"].seen) == 2


async def test_a_body_over_its_limit_is_a_413_and_the_end(pair: Box) -> None:
    await limit(pair, max_body_bytes=1000)
    assert (await ask(pair, request(padded(1000)))).status == 200
    for path in (b"/v1/chat/completions", b"/v1/messages"):
        # Only announced: it is refused before a byte of it came.
        talk = await wire(pair, head(b"Content-Length: 1001", path=path))
        answer = await talk.reply()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        kind = "request_too_large" if path == b"/v1/messages" else "invalid_request_error"
        assert answer.json["error"]["type"] == kind
        assert "larger than 0 MiB" in answer.json["error"]["message"]
    chunk = b"64\r\n" + b" " * 100 + b"\r\n"
    talk = await wire(pair, head(b"Transfer-Encoding: chunked") + chunk * 11)
    assert (await talk.reply()).status == 413
    assert len(pair.upstreams["chat"].seen) == 1


async def test_bodies_that_would_exceed_what_all_may_hold_are_a_429(pair: Box) -> None:
    await limit(pair, max_body_bytes=1000 * KIB, max_buffered_bytes=1000 * KIB)
    engine = pair.upstreams["chat"]
    body = padded(600 * KIB)
    first = await wire(pair, request(body)[:-1])
    await asked(pair)
    for raw in (
        request(body),
        head(b"Transfer-Encoding: chunked") + b"%x\r\n" % len(body) + body,
    ):
        answer = await ask(pair, raw)
        assert (answer.status, answer.code) == (429, "too_many_bodies")
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["connection"] == "close"
    # Small ones find room, and the first goes on as if nothing had been.
    assert (await ask(pair, request())).status == 200
    await first.send(body[-1:])
    assert (await first.reply()).status == 200
    assert [len(seen.body) for seen in engine.seen] == [len(BODY), len(body)]
    assert (await ask(pair, request(body))).status == 200


async def test_a_body_counts_until_the_answer_begins(pair: Box) -> None:
    await limit(pair, max_body_bytes=1000 * KIB, max_buffered_bytes=1000 * KIB)
    engine = pair.upstreams["chat"]
    body = padded(600 * KIB).replace(b'"x"', b'"stream":true,"x"')
    engine.gate.clear()
    talk = await wire(pair, request(body))
    await engine.arrived.wait()
    assert (await ask(pair, request(body))).status == 429
    engine.gate.set()
    engine.chunks.put_nowait(b"data: 1\n\n")
    await talk.reader.readuntil(b"data: 1\n\n")
    # It streams now, and its body is forgotten.
    assert (await ask(pair, request(padded(600 * KIB)))).status == 200
    engine.chunks.put_nowait(None)


async def test_who_leaves_or_is_refused_gives_its_room_back(pair: Box) -> None:
    await limit(pair, max_body_bytes=1000 * KIB, max_buffered_bytes=1000 * KIB)
    body = padded(900 * KIB)
    for _ in range(3):
        talk = await wire(pair, request(body)[:-1])
        await asked(pair)
        talk.abort()
        async with asyncio.timeout(10):  # the worker has to hear of it
            while (await ask(pair, request(body.replace(b'"chat"', b'"nope"')))).status == 429:
                await asyncio.sleep(0.02)
        # Refused too, with its body whole.
        assert (await ask(pair, request(body.replace(b'"chat"', b'"nope"')))).status == 404
    assert (await ask(pair, request(body))).status == 200


async def test_a_head_that_does_not_end_is_a_408_however_busy_the_client(pair: Box) -> None:
    await limit(pair, head_timeout_s=2)
    idle = await wire(pair)
    used = await wire(pair, HEALTH)
    assert (await used.reply()).status == 200
    for before in (b"", HEALTH):
        talk = await wire(pair, before)
        if before:
            assert (await talk.reply()).status == 200

        async def trickle(talk: Wire = talk) -> None:
            await talk.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
            while True:
                await talk.send(b"X-A: b\r\n")
                await asyncio.sleep(0.05)

        busy = asyncio.create_task(trickle())
        answer = await talk.reply()
        busy.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await busy
        assert (answer.status, answer.code) == (408, "request_timeout")
        assert answer.headers["connection"] == "close"
        assert await talk.closed()
    # Connections without a request keep their place.
    for talk in (idle, used):
        await talk.send(HEALTH)
        assert (await talk.reply()).status == 200


async def test_a_body_that_does_not_end_is_a_408_however_busy_the_client(pair: Box) -> None:
    await limit(pair, body_timeout_s=2)
    for path, kind, framing in (
        (b"/v1/chat/completions", "error", b"Content-Length: 100000"),
        (b"/v1/messages", "type", b"Transfer-Encoding: chunked"),
    ):
        talk = await wire(pair, head(framing, path=path))

        async def trickle(talk: Wire = talk) -> None:
            while True:
                await talk.send(b"1\r\n \r\n")
                await asyncio.sleep(0.05)

        busy = asyncio.create_task(trickle())
        answer = await talk.reply()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert kind in answer.json
        assert await talk.closed()
        busy.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await busy
    assert await untouched(pair)


async def test_an_engine_may_take_longer_than_a_client(pair: Box) -> None:
    await limit(pair, head_timeout_s=0.2, body_timeout_s=0.2)
    engine = pair.upstreams["chat"]
    engine.gate.clear()
    talk = await wire(pair, request())
    await engine.arrived.wait()
    late = await wire(pair, b"GET")
    assert (await late.reply()).status == 408  # so the time is over
    engine.gate.set()
    assert (await talk.reply()).status == 200


async def test_a_client_that_closes_its_half_is_taken_to_have_left(pair: Box) -> None:
    engine = pair.upstreams["chat"]
    engine.gate.clear()
    talk = await wire(pair, request())
    await engine.arrived.wait()
    talk.writer.write_eof()
    await asyncio.wait_for(engine.left.wait(), 10)
    assert await talk.closed()


@pytest.mark.slow
async def test_ten_thousand_idle_connections_cost_little_and_nobody_waits(pair: Box) -> None:
    wanted = 10_000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted + 1000:
        pytest.skip(f"{hard} descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    worker = psutil.Process(pair.workers[1].pid)
    before = worker.memory_info().rss
    idle = [await wire(pair) for _ in range(wanted)]
    await until(lambda: worker.num_fds() > wanted)
    assert (await ask(pair, request())).status == 200
    assert (worker.memory_info().rss - before) / wanted < 24 * KIB
    for talk in idle[::1000]:
        await talk.send(HEALTH)
        assert (await talk.reply()).status == 200
