"""Upstreams that close connections at the worst moment, played on bare sockets."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import pytest

from tests.integration.router.conftest import Box

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Bare:
    """Hands each request of each connection to `play(connection, request, writer)`.

    Both count from 0. The request has been read, body and all, when it is called.
    """

    play: Callable[[int, int, asyncio.StreamWriter], Awaitable[None]]
    seen: list[tuple[int, int]] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection, self.connections = self.connections, self.connections + 1
        number = 0
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
                await reader.readexactly(int(length or 0))
                self.seen.append((connection, number))
                await self.play(connection, number, writer)
                number += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def bare(box: Box, play: Callable[[int, int, asyncio.StreamWriter], Awaitable[None]]) -> Bare:
    """Put a bare upstream in the place of coder, with chat as it is."""
    played = Bare(play)
    path = box.run_dir.engine_socket("coder")
    await box.upstreams["coder"].close()
    server = await asyncio.start_unix_server(played.serve, path)
    box.stack.callback(server.close)
    return played


async def test_a_request_that_meets_a_connection_just_closed_is_sent_once_more(pair: Box) -> None:
    async def play(connection: int, number: int, writer: asyncio.StreamWriter) -> None:
        # The second request of the first connection finds it closing.
        writer.write(OK) if (connection, number) != (0, 1) else writer.close()

    played = await bare(pair, play)
    for _ in range(3):
        assert (await pair.chat(model="coder")).status == 200
    assert played.seen[:3] == [(0, 0), (0, 1), (1, 0)]
    assert (await pair.control("GET", "/upstreams"))["upstreams"]["coder"]["failures"] == 0


async def test_a_fresh_connection_that_closes_is_not_tried_again(pair: Box) -> None:
    async def play(connection: int, number: int, writer: asyncio.StreamWriter) -> None:
        writer.close()

    played = await bare(pair, play)
    assert (await pair.chat(model="coder")).status == 502
    assert played.seen == [(0, 0)]


async def test_half_a_head_is_a_502_even_on_a_kept_connection(pair: Box) -> None:
    async def play(connection: int, number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(OK if number == 0 else b"HTTP/1.1 200 OK\r\nContent-")
        if number:
            writer.close()

    played = await bare(pair, play)
    assert (await pair.chat(model="coder")).status == 200
    assert (await pair.chat(model="coder")).status == 502
    assert played.seen == [(0, 0), (0, 1)]


async def test_an_answer_cut_in_the_middle_is_a_502_while_nothing_was_sent(pair: Box) -> None:
    async def play(connection: int, number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(OK[:-1])
        writer.close()

    await bare(pair, play)
    assert (await pair.chat(model="coder")).status == 502


@pytest.mark.parametrize("framing", [b"Content-Length: 500000", b"Transfer-Encoding: chunked"])
async def test_a_long_answer_that_is_cut_looks_cut_to_the_client(pair: Box, framing: bytes) -> None:
    async def play(connection: int, number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + framing)
        writer.write(b"\r\n\r\n10000\r\n" + b"x" * 0x10000 + b"\r\n")
        await writer.drain()
        writer.close()

    await bare(pair, play)
    with pytest.raises(aiohttp.ClientPayloadError):
        await pair.chat(model="coder")
    assert (await pair.chat(model="chat")).status == 200


@pytest.mark.parametrize("noise", [b"\x00\x01\x02 what\r\n\r\n", b"HTTP/1.1 999999 X\r\n\r\n"])
async def test_an_upstream_that_does_not_speak_http_is_a_502(pair: Box, noise: bytes) -> None:
    async def play(connection: int, number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(noise)

    await bare(pair, play)
    answer = await pair.chat(model="coder")
    assert (answer.status, answer.json["error"]["code"]) == (502, "upstream_died")


async def test_a_compressed_request_is_read_and_the_query_passes(pair: Box) -> None:
    body = gzip.compress(b'{"model": "chat", "x": 1}')
    answer = await pair.post(
        "/v1/messages?beta=true", data=body, headers={"Content-Encoding": "gzip"}
    )
    assert (answer.status, answer.told("model")) == (200, "chat")
    (seen,) = pair.upstreams["chat"].seen
    assert (seen.body, seen.path) == (b'{"model": "chat", "x": 1}', "/v1/messages?beta=true")


async def test_a_compressed_bomb_stops_at_the_limit(pair: Box) -> None:
    body = gzip.compress(b" " * (64 << 20))
    answer = await pair.post("/v1/messages", data=body, headers={"Content-Encoding": "gzip"})
    assert answer.status == 413


async def test_a_large_body_that_waits_for_permission_gets_it(pair: Box) -> None:
    answer = await pair.post("/v1/completions", json={"model": "chat"}, expect100=True)
    assert answer.status == 200
    refused = await pair.post(
        "/v1/completions", data=b"x", headers={"Content-Length": str(1 << 30)}, expect100=True
    )
    assert refused.status == 413
