"""Streams, and what becomes of them when either side leaves; timing by events, not by clocks."""

import asyncio
import json
import re
import socket

import psutil
import pytest

from tests.integration.router.conftest import CODE, Box, until
from tests.integration.router.raw import head, wire

STREAM = {"model": "coder", "stream": True, "messages": [{"role": "user", "content": "x"}]}


async def test_each_chunk_passes_before_the_next_is_made(pair: Box) -> None:
    engine = pair.upstreams["coder"]
    async with pair.http.post(f"{pair.url}/v1/chat/completions", json=STREAM) as answer:
        # The head is here although no chunk was made yet.
        assert answer.headers["x-gpuserve-model"] == "coder"
        assert answer.headers["Content-Type"] == "text/event-stream"
        for n in range(3):
            chunk = f"data: {n}\n\n".encode()
            engine.chunks.put_nowait(chunk)
            assert await answer.content.readexactly(len(chunk)) == chunk
        engine.chunks.put_nowait(None)
        assert await answer.content.read() == b""


async def test_a_client_that_leaves_mid_stream_is_seen_by_the_engine(pair: Box) -> None:
    engine = pair.upstreams["coder"]
    async with pair.http.post(f"{pair.url}/v1/chat/completions", json=STREAM) as answer:
        engine.chunks.put_nowait(b"data: 1\n\n")
        await answer.content.readany()
        answer.close()
        await asyncio.wait_for(engine.left.wait(), 5)
    counted = await _settled(pair)
    assert 'gpuserve_router_aborts_total{cause="client",model="coder"} 1.0' in counted


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_before_the_first_byte_is_seen_too(
    pair: Box, *, stream: bool
) -> None:
    engine = pair.upstreams["coder"]
    engine.gate.clear()
    asking = asyncio.create_task(pair.chat(model="coder", stream=stream))
    await engine.arrived.wait()
    asking.cancel()
    await asyncio.wait_for(engine.left.wait(), 5)
    await _settled(pair)


CHAT_ERROR = {"type": "server_error", "code": "upstream_died", "param": None}


@pytest.mark.parametrize(
    ("path", "name", "wanted", "told"),
    [
        ("/v1/chat/completions", b"", {}, {**CHAT_ERROR}),
        ("/v1/messages", b"event: error\n", {"type": "error"}, {"type": "api_error"}),
        ("/v1/responses", b"event: error\n", {"type": "error", "code": "upstream_died"}, None),
    ],
)
@pytest.mark.parametrize("first", [b"data: {}\n\n", b'data: {"half":'])
async def test_an_engine_that_dies_mid_stream_ends_it_with_one_error_event(
    pair: Box,
    path: str,
    name: bytes,
    wanted: dict[str, str],
    told: dict[str, str] | None,
    first: bytes,
) -> None:
    engine = pair.upstreams["coder"]
    async with pair.http.post(pair.url + path, json=STREAM) as answer:
        engine.chunks.put_nowait(first)
        assert await answer.content.readexactly(len(first)) == first
        engine.chunks.put_nowait("die")
        rest = await answer.content.read()
    *_, event, end = rest.split(b"\n\n")
    assert end == b""
    assert event.startswith(name + b"data: ")
    data = json.loads(event.partition(b"data: ")[2])
    error = data if told is None else data["error"]
    assert "the engine of coder went away" in error["message"]
    assert {key: data[key] for key in wanted} == wanted
    assert {key: error[key] for key in told or {}} == (told or {})


async def test_an_engine_that_dies_before_its_answer_is_a_502(pair: Box) -> None:
    pair.upstreams["coder"].die_before_answer = True
    answer = await pair.chat(CODE)
    assert answer.status == 502
    assert answer.told("model") == "coder"
    assert answer.json["error"]["code"] == "upstream_died"
    # It had read the request, so nobody else was asked, and it was asked once.
    assert not pair.upstreams["chat"].seen
    assert len(pair.upstreams["coder"].seen) == 1
    figures = (await pair.control("GET", "/upstreams"))["upstreams"]["coder"]
    assert (figures["failures"], figures["in_flight"]) == (1, 0)


async def test_an_upstream_that_refuses_connections_is_replaced_by_the_other(pair: Box) -> None:
    await pair.upstreams["coder"].close()
    answer = await pair.chat(CODE)
    assert (answer.status, answer.told("model"), answer.told("route")) == (200, "chat", "code")
    assert answer.told("fallback") == "coder: refuses connections"
    named = await pair.chat(model="coder")
    assert (named.status, named.headers["Retry-After"]) == (503, "1")
    # It comes back by itself.
    await pair.upstreams["coder"].start()
    async with asyncio.timeout(10):
        while (await pair.chat(CODE)).told("model") != "coder":
            await asyncio.sleep(0.05)


async def test_a_kept_connection_that_the_engine_closed_costs_no_request(pair: Box) -> None:
    # A new server at the same socket: every connection that the router kept is closed.
    for _ in range(20):
        assert (await pair.chat(model="coder")).status == 200
        await pair.upstreams["coder"].close()
        await pair.upstreams["coder"].start()
        assert (await pair.chat(model="coder")).status == 200


async def test_a_client_that_reads_nothing_does_not_make_the_router_pull(pair: Box) -> None:
    engine = pair.upstreams["coder"]
    chunk = b"data: " + b"x" * (1 << 20) + b"\n\n"
    async with pair.http.post(f"{pair.url}/v1/chat/completions", json=STREAM) as answer:
        for _ in range(64):
            engine.chunks.put_nowait(chunk)
        engine.chunks.put_nowait(None)

        async def pulled() -> int:
            figures = await pair.control("GET", "/upstreams")
            received: int = figures["upstreams"]["coder"]["bytes"]
            return received

        before = -1
        while (now := await pulled()) != before:
            before = now
            await asyncio.sleep(0.2)
        assert before < 32 << 20  # what the kernel's buffers on both ways take
        size = 0
        async for piece in answer.content.iter_any():
            size += len(piece)
    assert size == 64 * len(chunk)


async def test_many_that_read_nothing_cost_less_than_a_mebibyte_each(pair: Box) -> None:
    stalled, engine = 24, pair.upstreams["coder"]
    worker = psutil.Process(pair.workers[1].pid)
    body = json.dumps(STREAM).encode()
    raw = head(b"Content-Type: application/json", b"Content-Length: %d" % len(body)) + body
    talks = [await wire(pair, raw, limit=1) for _ in range(stalled)]
    await until(lambda: len(engine.seen) == stalled)
    before = worker.memory_info().rss
    for _ in range(stalled * 16):
        engine.chunks.put_nowait(b"data: " + b"x" * (1 << 20) + b"\n\n")

    async def pulled() -> int:
        figures = await pair.control("GET", "/upstreams")
        return int(figures["upstreams"]["coder"]["bytes"])

    seen = -1
    while (now := await pulled()) != seen or not now:
        seen = now
        await asyncio.sleep(0.2)
    assert not engine.chunks.empty()
    assert (worker.memory_info().rss - before) / stalled < 1 << 20
    for talk in talks:
        talk.abort()


async def test_a_drained_worker_refuses_newcomers_and_finishes_its_stream(pair: Box) -> None:
    engine = pair.upstreams["coder"]
    worker = pair.workers[1]
    host, port = pair.listening.getsockname()
    async with pair.http.post(f"{pair.url}/v1/chat/completions", json=STREAM) as answer:
        pair.listening.close()  # so that the worker is the last who holds it
        await pair.control("POST", "/drain")
        await until(lambda: _refused(host, port))
        engine.chunks.put_nowait(b"data: 1\n\n")
        assert await answer.content.readany() == b"data: 1\n\n"
        assert worker.returncode is None
        engine.chunks.put_nowait(None)
        assert await answer.content.read() == b""
    assert await asyncio.wait_for(worker.wait(), 10) == 0
    assert not pair.run_dir.router_socket(1).exists()


async def test_kept_connections_do_not_keep_a_drained_worker(pair: Box) -> None:
    host, port = pair.listening.getsockname()
    health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    body = b'{"model":"chat","prompt":"x"}'
    asked = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    asked += b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    for sent in (b"", health, asked, health + asked, asked + health):
        reader, writer = await asyncio.open_connection(host, port)
        pair.stack.callback(writer.close)
        writer.write(sent)
        for _ in range(sent.count(b"HTTP/1.1")):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert head.startswith(b"HTTP/1.1 200")
            length = re.search(rb"content-length: (\d+)", head.lower())
            assert length is not None
            await reader.readexactly(int(length[1]))
    await pair.control("POST", "/drain")
    assert await asyncio.wait_for(pair.workers[1].wait(), 10) == 0


async def test_sigterm_lets_the_stream_finish_and_a_second_one_hurries(pair: Box) -> None:
    engine = pair.upstreams["coder"]
    worker = pair.workers[1]
    async with pair.http.post(f"{pair.url}/v1/chat/completions", json=STREAM) as answer:
        worker.terminate()
        engine.chunks.put_nowait(b"data: 1\n\n")
        assert await answer.content.readany() == b"data: 1\n\n"
        assert worker.returncode is None
        worker.terminate()
        assert await asyncio.wait_for(worker.wait(), 10) == 0
        await asyncio.wait_for(engine.left.wait(), 5)


def _refused(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return True
    return False


async def _settled(box: Box) -> str:
    """Return the metrics once nothing is in flight."""
    async with asyncio.timeout(5):
        while True:
            figures = (await box.control("GET", "/upstreams"))["upstreams"]
            if not any(f["in_flight"] for f in figures.values()):
                return (await box.get("/metrics")).body.decode()
            await asyncio.sleep(0.01)
