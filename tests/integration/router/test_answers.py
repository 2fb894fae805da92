"""Answers of upstreams that break every rule: a client never takes half of one for the whole."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable

import pytest

from tests.integration.router.conftest import Box
from tests.integration.router.raw import Reply, Wire, ask, request, wire
from tests.integration.router.test_rough_upstreams import OK, bare

ASK = request(b'{"model":"coder"}')
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
APIS = {
    b"/v1/chat/completions": b"data: ",
    b"/v1/completions": b"data: ",
    b"/v1/messages": b"event: error\ndata: ",
    b"/v1/responses": b"event: error\ndata: ",
}


def saying(
    answer: bytes, *, close: bool = False
) -> Callable[[int, int, asyncio.StreamWriter], Awaitable[None]]:
    async def play(connection: int, number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        if close:
            await writer.drain()
            writer.close()

    return play


def changing(
    answers: list[bytes], *, close: bool
) -> Callable[[int, int, asyncio.StreamWriter], Awaitable[None]]:
    """Each request gets the next of *answers*."""

    async def play(connection: int, number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(answers.pop(0))
        await writer.drain()
        if close:
            writer.close()

    return play


async def test_an_answer_without_a_length_ends_with_its_connection(pair: Box) -> None:
    await bare(pair, saying(JSON + b"\r\n" + b"x" * 100_000, close=True))
    for _ in range(3):
        assert (await ask(pair, ASK)).body == b"x" * 100_000


async def test_answers_of_1xx_come_before_the_answer(pair: Box) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    await bare(pair, saying(early + OK))
    talk = await wire(pair, ASK)
    for _ in range(3):
        assert (await talk.reply()).body == b"{}"
        await talk.send(ASK)


NO_ANSWERS = {
    "switches protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "is no HTTP": b"220 smtp.example.com ESMTP\r\n\r\n",
    "is HTTP of another kind": b"HTTP/3.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "has no status": b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\n{}",
    "has a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\n{}",
    "has two lengths": JSON + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "has a length that is none": JSON + b"Content-Length: 2x\r\n\r\n{}",
    "has a negative length": JSON + b"Content-Length: -2\r\n\r\n{}",
    "has a line without a colon": JSON + b"nonsense\r\nContent-Length: 2\r\n\r\n{}",
    "has a NUL in its head": JSON + b"X-A: \0\r\nContent-Length: 2\r\n\r\n{}",
    "has a head without an end": JSON + b"X-A: " + b"a" * (1 << 20),
}


async def test_what_is_no_answer_is_a_502(pair: Box) -> None:
    answers = list(NO_ANSWERS.values())
    await bare(pair, changing(answers, close=False))
    for name in NO_ANSWERS:
        answer = await ask(pair, ASK)
        assert (name, answer.status, answer.code) == (name, 502, "upstream_died")
        assert answer.headers["x-gpuserve-model"] == "coder", name


async def test_bytes_behind_an_answer_are_not_the_next_one(pair: Box) -> None:
    forged = JSON + b"X-Forged: 1\r\nContent-Length: 6\r\n\r\nforged"
    await bare(pair, saying(OK + forged))
    talk = await wire(pair, ASK)
    for _ in range(5):
        assert (await talk.reply()).body == b"{}"
        await talk.send(ASK)


async def test_an_answer_that_comes_byte_by_byte_is_whole(pair: Box) -> None:
    sent = EVENTS + b"9\r\ndata: 1\n\n\r\n0\r\nX-Trailer: 1\r\n\r\n"

    async def play(connection: int, number: int, writer: asyncio.StreamWriter) -> None:
        for at in range(len(sent)):
            writer.write(sent[at : at + 1])
            await writer.drain()
            await asyncio.sleep(0)

    await bare(pair, play)
    talk = await wire(pair, ASK)
    for _ in range(2):
        answer = await talk.reply()
        assert (answer.status, answer.body) == (200, b"data: 1\n\n")
        await talk.send(ASK)


async def test_an_answer_without_a_body_needs_no_length(pair: Box) -> None:
    answers = [b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\n\r\n", OK]
    await bare(pair, changing(answers, close=False))
    talk = await wire(pair)
    for status in (204, 304, 200):
        await talk.send(ASK)
        assert (await talk.reply()).status == status


async def test_a_short_answer_cut_at_any_byte_is_a_502(pair: Box) -> None:
    body = b'{"choices":[{"text":"a whole answer"}]}'
    whole = JSON + b"Content-Length: %d\r\n\r\n" % len(body) + body
    cuts = [*range(0, len(whole), 5), len(whole) - 1]
    await bare(pair, changing([whole[:cut] for cut in cuts], close=True))
    for cut in cuts:
        answer = await ask(pair, ASK)
        assert (cut, answer.status, answer.code) == (cut, 502, "upstream_died")


async def complete(talk: Wire) -> Reply | None:
    """Return the answer, None when the connection was cut before its end."""
    try:
        return await talk.reply()
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def test_a_chunked_answer_cut_at_any_byte_never_looks_whole(pair: Box) -> None:
    whole = JSON + CHUNKED + b"8\r\n{'a': 1,\r\n5;x=y\r\n'b':2\r\n1\r\n}\r\n0\r\nX-A: b\r\n\r\n"
    cuts = list(range(len(JSON + CHUNKED), len(whole), 1))
    await bare(pair, changing([whole[:cut] for cut in cuts], close=True))
    for cut in cuts:
        answer = await complete(await wire(pair, ASK))
        assert answer is None or answer.status == 502, (cut, answer)


async def test_a_stream_cut_at_any_byte_ends_with_one_error(pair: Box) -> None:
    events = [b'data: {"n":%d}\n\n' % n for n in range(2)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events)
    whole = EVENTS + chunks + b"0\r\n\r\n"
    cuts = list(range(len(EVENTS) + 1, len(whole), 1))
    await bare(pair, changing([whole[:cut] for cut in cuts], close=True))
    for cut in cuts:
        answer = await complete(await wire(pair, ASK))
        if answer is None:
            continue  # a cut in the middle of a chunk may be told by a cut
        *before, last, end = answer.body.split(b"\n\n")
        assert (cut, end) == (cut, b"")
        assert (
            json.loads(last.strip().removeprefix(b"data: "))["error"]["code"] == "upstream_died"
        ), cut
        assert not any(b"upstream_died" in event for event in before), cut


BROKEN: dict[str, bytes | None] = {
    "the engine goes": None,
    "a size that is none": b"XYZ\r\ndata: 2\n\n\r\n",
    "a chunk that is longer": b"3\r\ndata: 2\n\n\r\n",
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_stream_that_breaks_ends_with_an_error_of_its_api(pair: Box, how: str) -> None:
    rest, received = BROKEN[how], asyncio.Event()

    async def play(connection: int, number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS + b"9\r\ndata: 1\n\n\r\n")
        await received.wait()
        writer.close() if rest is None else writer.write(rest)

    await bare(pair, play)
    for done, (path, begin) in enumerate(APIS.items(), start=1):
        received.clear()
        talk = await wire(pair, request(b'{"model":"coder","stream":true}', path=path))
        before = await talk.until(b"data: 1\n\n\r\n")
        assert before.startswith(b"HTTP/1.1 200")
        received.set()
        *_, last, end = (await talk.body("200", {"transfer-encoding": "chunked"})).split(b"\n\n")
        last = last.strip()
        assert (path, end, last.startswith(begin)) == (path, b"", True)
        told = json.loads(last.removeprefix(begin))
        assert "went away in the middle" in told.get("error", told)["message"]
        assert await talk.closed()
        figures = (await pair.control("GET", "/upstreams"))["upstreams"]["coder"]
        assert (figures["failures"], figures["in_flight"]) == (done, 0)


async def test_a_json_answer_whose_chunks_break_is_cut(pair: Box) -> None:
    answers = [
        JSON + CHUNKED + b"5\r\n12345\r\n" + rest for rest in (b"ZZ\r\n", b"5\r\n123456\r\n")
    ]
    await bare(pair, changing(answers, close=False))
    for _ in range(2):
        answer = await complete(await wire(pair, ASK))
        assert answer is None or answer.status == 502


async def test_what_an_engine_says_of_its_connection_stays_there(pair: Box) -> None:
    lines = (
        b"Keep-Alive: timeout=5\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Gpuserve-Model: forged\r\n"
    )
    lines += b"Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nAccess-Control-Allow-Origin: *\r\n"
    await bare(pair, saying(JSON + lines + b"Content-Length: 2\r\nX-Kept: 1\r\n\r\n{}"))
    answer = await ask(pair, ASK)
    assert (answer.headers["x-kept"], answer.headers["x-gpuserve-model"]) == ("1", "coder")
    gone = {"keep-alive", "x-hop", "proxy-authenticate", "upgrade", "connection"}
    assert not (gone | {"access-control-allow-origin"}) & set(answer.headers)


async def test_an_upstream_that_answers_nobody_is_given_up_after_three_seconds(pair: Box) -> None:
    # A listener that accepts nothing, with its queue full: connecting takes for ever.
    listening = socket.socket()
    pair.stack.callback(listening.close)
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    port = listening.getsockname()[1]
    calls = [asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
    waiting = [asyncio.create_task(call) for call in calls]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    url = f"http://127.0.0.1:{port}"
    pair.write(pair.engine("coder", socket=None, url=url), pair.engine("chat"))
    await pair.reload()
    answer = await ask(pair, ASK)
    assert (answer.status, answer.code) == (503, "model_not_ready")
    for task in waiting:
        task.cancel()
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        if isinstance(result, tuple):
            result[1].close()
