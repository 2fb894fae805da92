"""Clients that send nonsense, or leave: the worker goes on, and says nothing with a traceback.

The fixture fails a test whose worker printed one.
"""

import asyncio
import json

import psutil
import pytest

from gpuserve.router.worker import DRAIN_TIMEOUT_S
from tests.integration.router.conftest import Box, until
from tests.integration.router.raw import chunked, head, request, wire

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


async def say(box: Box, raw: bytes, *, leave: bool = False) -> bytes:
    """Send *raw* and return everything that comes back until the router closes."""
    host, port = box.listening.getsockname()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(raw)
    await writer.drain()
    if leave:
        assert writer.transport is not None
        writer.transport.abort()
        return b""
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("headers", "rest"),
    [
        (b"Content-Encoding: gzip\r\nContent-Length: 40", b"x" * 40),
        (b"Content-Encoding: deflate\r\nTransfer-Encoding: chunked", b"3\r\nxxx\r\n0\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/messages"])
async def test_a_body_that_is_not_compressed_as_it_says_is_a_400_of_the_api(
    pair: Box, path: bytes, headers: bytes, rest: bytes
) -> None:
    host, port = pair.listening.getsockname()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"POST " + path + b" HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n\r\n")
    await writer.drain()
    await _asked(pair, 20)  # the worker has the head now, and waits for the rest
    writer.write(rest)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    assert answer.count(b"HTTP/1.1") == 1
    assert not pair.upstreams["chat"].seen


async def test_the_control_socket_answers_while_a_large_body_is_parsed(pair: Box) -> None:
    turn = b'{"role":"user","name":"a","x":1},'
    body = b'{"model":"nobody","messages":[' + turn * 950_000 + b"{}]}"
    assert 29 << 20 < len(body) < 32 << 20
    host, port = pair.listening.getsockname()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body[:-1])
    await writer.drain()
    await _asked(pair, 20)  # the worker has it all now but for the last byte
    writer.write(body[-1:])
    answered = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
    await _asked(pair, 3)
    early = answered.done()
    async with asyncio.timeout(30):
        assert (await answered).startswith(b"HTTP/1.1 404")
    writer.close()
    assert not early


async def test_a_body_of_little_but_objects_is_read_aside_and_one_of_text_is_not(pair: Box) -> None:
    worker = psutil.Process(pair.workers[1].pid)
    for inside, aside in ((b'"' + b"x" * 90_000 + b'"', False), (b"{}," * 30_000 + b"{}", True)):
        body = b'{"model":"nobody","messages":[' + inside + b"]}"
        talk = await wire(pair, HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert (await talk.reply()).status == 404
        assert bool(worker.children()) is aside
        talk.abort()


async def test_who_reads_large_bodies_may_be_killed_and_comes_back(pair: Box) -> None:
    worker = psutil.Process(pair.workers[1].pid)
    body = b'{"model":"nobody","messages":[' + b'{"role":"user"},' * 200_000 + b"{}]}"
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    talk = await wire(pair, whole)
    # Between fork and exec it has the name of its parent.
    await until(lambda: any("gpuserve.router.aside" in c.cmdline() for c in worker.children()))
    (reader,) = worker.children()
    reader.kill()
    answer = await talk.reply()
    assert (answer.status, answer.code) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"
    assert (await (await wire(pair, whole)).reply()).status == 404
    # Who leaves meanwhile leaves its answer to nobody, and the next gets its own.
    (await wire(pair, whole)).abort()
    assert (await (await wire(pair, whole.replace(b"nobody", b"chat--"))).reply()).status == 404
    (reader,) = worker.children()
    worker.terminate()
    await until(lambda: not reader.is_running())


async def _asked(box: Box, times: int) -> None:
    for _ in range(times):
        await box.control("GET", "/upstreams")


async def test_a_client_that_leaves_while_it_sends_costs_nothing(pair: Box) -> None:
    await say(pair, HEAD + b'Content-Length: 100\r\n\r\n{"model":', leave=True)
    await say(pair, HEAD, leave=True)
    assert (await pair.chat(model="chat")).status == 200
    assert len(pair.upstreams["chat"].seen) == 1


async def test_pipelined_requests_are_answered_in_order(pair: Box) -> None:
    raw = b""
    for model in ("coder", "chat", "nope", "coder"):
        body = json.dumps({"model": model}).encode()
        raw += HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    raw += b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await say(pair, raw)
    wanted = [b'"served_by": "coder"', b'"served_by": "chat"', b"model_not_found"]
    wanted += [b'"served_by": "coder"', b'"alive": true']
    at = 0
    for piece in wanted:
        at = answer.index(piece, at) + 1


async def test_many_that_leave_at_any_moment_leak_nothing(pair: Box) -> None:
    engine = pair.upstreams["coder"]
    body = b'{"model":"coder","stream":true}'
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    engine.gate.clear()
    for cut in range(0, len(whole) + 1, 7):
        await say(pair, whole[:cut], leave=True)
    for _ in range(20):
        await say(pair, whole, leave=True)
    engine.gate.set()

    async def in_flight() -> int:
        figures = (await pair.control("GET", "/upstreams"))["upstreams"]
        return int(figures["coder"]["in_flight"])

    async with asyncio.timeout(10):
        while await in_flight():
            await asyncio.sleep(0.02)
    assert (await pair.chat(model="chat")).status == 200


async def test_a_client_that_stops_reading_and_then_leaves_frees_the_engine(pair: Box) -> None:
    engine = pair.upstreams["coder"]
    worker = psutil.Process(pair.workers[1].pid)
    before = worker.memory_info().rss
    for _ in range(64):
        engine.chunks.put_nowait(b"data: " + b"x" * (1 << 20) + b"\n\n")
    body = b'{"model":"coder","stream":true}'
    host, port = pair.listening.getsockname()
    _, writer = await asyncio.open_connection(host, port, limit=1)
    writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async def pulled() -> int:
        return int((await pair.control("GET", "/upstreams"))["upstreams"]["coder"]["bytes"])

    seen = -1
    while (now := await pulled()) != seen or not now:
        seen = now
        await asyncio.sleep(0.2)
    assert not engine.chunks.empty()
    assert worker.memory_info().rss - before < 16 << 20
    assert not engine.left.is_set()
    writer.transport.abort()
    await asyncio.wait_for(engine.left.wait(), 5)


async def test_head_and_http10_are_answered(pair: Box) -> None:
    answer = await say(pair, b"HEAD /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body == b""
    assert b'"alive": true' in await say(pair, b"GET /healthz HTTP/1.0\r\n\r\n")


async def test_the_worker_ends_well_with_idle_connections_open(pair: Box) -> None:
    host, port = pair.listening.getsockname()
    streams = [await asyncio.open_connection(host, port) for _ in range(5)]
    # And some that were used and kept, by either side.
    for raw in (request(), head(method=b"GET", path=b"/healthz"), chunked(b'{"model":"chat"}')):
        talk = await wire(pair, raw)
        assert (await talk.reply()).status == 200
        streams.append((talk.reader, talk.writer))
    worker = pair.workers[1]
    worker.terminate()
    assert await asyncio.wait_for(worker.wait(), DRAIN_TIMEOUT_S - 2) == 0
    for reader, writer in streams:
        assert await reader.read() == b""
        writer.close()
    await until(lambda: not pair.run_dir.router_socket(1).exists())
