"""The fast path and aiohttp answer the same request in the same way."""

import asyncio
import json
import socket
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from gpuserve.profile.spec import LimitsSpec
from tests.integration.router.conftest import CODE, GENERAL, Box
from tests.integration.router.raw import BODY, Reply, ask, head, request, wire

# Of the moment, or of the framing, which either may choose.
_OWN = frozenset(("date", "x-request-id", "content-length", "transfer-encoding"))
_AT_REST = ("gpuserve_router_in_flight", "gpuserve_router_held_bytes")
PATHS = (b"/v1/chat/completions", b"/v1/messages", b"/v1/responses")


@pytest.fixture
async def other(pair: Box) -> Box:
    """A second worker, with aiohttp alone, on a port of its own; same table, same engines."""
    listening = socket.create_server(("127.0.0.1", 0))
    pair.stack.callback(listening.close)
    box = replace(pair, listening=listening, fast=False, workers={})
    await box.worker(2)
    return box


def asked(text: str, **fields: Any) -> bytes:
    turns = [{"role": "user", "content": text}]
    return json.dumps({"messages": turns, **fields}).encode()


def shape(reply: Reply) -> Any:
    """Return all that must be the same."""
    headers = {name: value for name, value in reply.headers.items() if name not in _OWN}
    body: Any = json.loads(reply.body) if reply.body[:1] == b"{" else reply.body
    if reply.status == 400 and reply.headers.get("connection") == "close":
        # Two parsers, two wordings of what is no HTTP.
        assert body["error"]["message"].startswith("this is no HTTP request: ")
        body["error"]["message"] = ""
    return reply.status, headers, body


REQUESTS = {
    "a named model": request(),
    "an alias": request(b'{"model":"deepseek-coder"}'),
    "auto, code": request(asked(CODE, model="auto")),
    "auto, general": request(asked(GENERAL, model="auto")),
    "no model": request(asked(CODE)),
    "an unknown model": request(b'{"model":"nope"}'),
    "a model that loads": request(b'{"model":"slow"}'),
    "a model that is no string": request(b'{"model":5}'),
    "a key that stands twice": request(b'{"model":"chat","model":"coder"}'),
    "no JSON": request(b'{"model":'),
    "an array": request(b'["model"]'),
    "no UTF-8": request(b'{"model":"\xff"}'),
    "no body": request(b""),
    "no length": head(b"Content-Type: application/json"),
    "an id of its own": request(BODY, b"X-Request-Id: mine"),
    "an id that is none": request(BODY, b"X-Request-Id: a b"),
    "headers that are ours": request(BODY, b"X-Gpuserve-Model: forged"),
    "connection: close": request(BODY, b"Connection: close"),
    "an expectation": request(BODY, b"Expect: something"),
    "too large": request(b" " * 2000),
    "a head too large": request(BODY, b"X-A: " + b"a" * 40_000),
    "two lengths": request(BODY, b"Content-Length: 1"),
    "a bad line": request(BODY, b"no header"),
    "a path that is none": request(BODY, path=b"/v1x"),
    "a path with a query": request(BODY, path=b"/v1/chat/completions?a=b"),
    "a query of Messages": request(BODY, path=b"/v1/messages?beta=true"),
    "a query that is odd": request(BODY, path=b"/v1/completions?a='b'"),
    "a page": request(BODY, b"Origin: https://a"),
    "a page without a name": request(BODY, b"Origin:"),
    "two pages": request(BODY, b"Origin: https://a", b"Origin: https://b"),
    "a method that is wrong": head(method=b"GET"),
    "options": head(method=b"OPTIONS"),
}


@pytest.mark.parametrize("box", [True], indirect=True)
async def test_both_sides_answer_alike(pair: Box, other: Box) -> None:
    slow = pair.engine("slow", state="Starting", routable=False, retry_after_s=7.0)
    small = LimitsSpec(max_body_bytes=1000)
    pair.write(*pair.table.upstreams, slow, limits=small)
    await pair.reload()
    await pair.reload(2)
    for path in PATHS:
        for name, raw in REQUESTS.items():
            sent = raw.replace(PATHS[0] + b" ", path + b" ", 1)
            ours, theirs = await ask(pair, sent), await ask(other, sent)
            assert (name, shape(ours)) == (name, shape(theirs))
            assert ours.headers["x-request-id"], name
            if name == "an id of its own":
                assert ours.headers["x-request-id"] == theirs.headers["x-request-id"] == "mine"


@pytest.mark.parametrize("box", [True], indirect=True)
async def test_engines_get_the_same_from_both_sides(pair: Box, other: Box) -> None:
    engine = pair.upstreams["chat"]
    for name in ("a named model", "auto, general", "connection: close", "headers that are ours"):
        for box in (pair, other):
            await ask(
                box, REQUESTS[name].replace(b"Host: x\r\n", b"Host: x\r\nX-A: b\r\nTE: c\r\n")
            )
        ours, theirs = engine.seen[-2:]
        assert (ours.path, ours.body) == (theirs.path, theirs.body)
        drop = {"x-request-id", "host"}
        heads = [
            {k.lower(): v for k, v in seen.headers.items() if k.lower() not in drop}
            for seen in (ours, theirs)
        ]
        assert (name, heads[0]) == (name, heads[1])


@pytest.mark.parametrize("box", [True], indirect=True)
async def test_what_an_engine_says_comes_through_alike(pair: Box, other: Box) -> None:
    engine = pair.upstreams["chat"]
    for status in (200, 201, 400, 404, 422, 429, 500, 503):
        engine.status = status
        ours, theirs = await ask(pair, request()), await ask(other, request())
        assert ours.status == status
        assert shape(ours) == shape(theirs)
    engine.die_before_answer = True
    ours, theirs = await ask(pair, request()), await ask(other, request())
    assert (ours.status, shape(ours)) == (502, shape(theirs))


def counters(text: str) -> dict[str, float]:
    """Return every counter in *text*, and how often each histogram was fed."""
    found = {}
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        name = series.partition("{")[0]
        counts = name.endswith(("_total", "_seconds_count")) and not name.startswith("#")
        if counts and float(value):
            found[series] = float(value)
    return found


@pytest.mark.parametrize("box", [True], indirect=True)
async def test_both_sides_count_alike(pair: Box, other: Box) -> None:
    slow = pair.engine("slow", state="Starting", routable=False, retry_after_s=7.0)
    limits = LimitsSpec(max_body_bytes=1000, head_timeout_s=1, body_timeout_s=1)
    pair.write(*pair.table.upstreams, slow, limits=limits)
    late = [b"GET / HTTP/1.1\r\n", request()[:-1]]
    engine = pair.upstreams["coder"]
    texts = []
    for slot, box in ((1, pair), (2, other)):
        await pair.reload(slot)
        for raw in [*REQUESTS.values(), *late]:
            await ask(box, raw)
        for last in ("leave", "die"):
            engine.left.clear()
            engine.chunks.put_nowait(b"data: 1\n\n")
            talk = await wire(box, request(b'{"model":"coder","stream":true}'))
            await talk.until(b"data: 1\n\n\r\n")
            if last == "die":
                engine.chunks.put_nowait("die")
                await talk.reader.read()
            else:
                talk.abort()
                await asyncio.wait_for(engine.left.wait(), 10)
        texts.append(await settled(pair, slot))
    ours, theirs = (counters(text) for text in texts)
    # Which connections were used again is a matter of timing and of pools.
    drop = "gpuserve_router_upstream_connections_total"
    ours, theirs = ({k: v for k, v in c.items() if drop not in k} for c in (ours, theirs))
    assert ours == theirs
    for code in ("request_timeout", "bad_request", "head_too_large", "request_too_large"):
        assert f'gpuserve_router_refusals_total{{code="{code}"}}' in ours
    assert ours['gpuserve_router_aborts_total{cause="client",model="coder"}'] == 1
    assert ours['gpuserve_router_aborts_total{cause="upstream",model="coder"}'] == 1


async def settled(box: Box, slot: int) -> str:
    """Return the metrics of one worker once nothing is in flight or held there."""
    async with asyncio.timeout(10):
        while True:
            text = await metrics(box, slot)
            lines = [line for line in text.splitlines() if line.startswith(_AT_REST)]
            if all(line.endswith(" 0.0") for line in lines):
                return text
            await asyncio.sleep(0.02)


async def metrics(box: Box, slot: int) -> str:
    connector = aiohttp.UnixConnector(str(box.run_dir.router_socket(slot)))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get("http://localhost/metrics") as answer,
    ):
        return await answer.text()
