"""What HTTP asks of a server beside POST: OPTIONS, HEAD, keep-alive, Expect; and pages (CORS)."""

import pytest

from tests.integration.router.conftest import Box
from tests.integration.router.raw import BODY, PATH, Reply, ask, asked, head, request, wire

PAGE = b"Origin: https://chat.example.com"
ORIGIN = "https://chat.example.com"


async def allow(box: Box, *origins: str) -> None:
    box.write(*box.table.upstreams, allowed_origins=origins)
    await box.reload()


async def preflight(box: Box, path: bytes = PATH, origin: bytes = PAGE) -> Reply:
    lines = [origin, b"Access-Control-Request-Method: POST"]
    lines += [b"Access-Control-Request-Headers: authorization,content-type"]
    return await ask(box, head(*lines, method=b"OPTIONS", path=path))


def permissions(reply: Reply) -> set[str]:
    return {name for name in reply.headers if name.startswith("access-control-")}


async def test_pages_are_not_let_in_unless_the_profile_says_so(pair: Box) -> None:
    refused = await preflight(pair)
    assert (refused.status, refused.code) == (403, "origin_not_allowed")
    assert "[server] allowed_origins" in refused.json["error"]["message"]
    assert not permissions(refused)
    for raw in (request(BODY, PAGE), request(b"{", PAGE)):
        assert not permissions(await ask(pair, raw))


@pytest.mark.parametrize("origins", [(ORIGIN, "http://localhost:3000"), ("*",)])
async def test_a_page_that_is_let_in_can_read_every_answer(
    pair: Box, origins: tuple[str, ...]
) -> None:
    await allow(pair, *origins)
    told = "*" if origins == ("*",) else ORIGIN
    asked_first = await preflight(pair)
    assert (asked_first.status, asked_first.body) == (204, b"")
    assert asked_first.headers["access-control-allow-origin"] == told
    assert asked_first.headers["access-control-allow-headers"] == "authorization,content-type"
    assert "POST" in asked_first.headers["access-control-allow-methods"]
    stream = request(b'{"model":"chat","stream":true}', PAGE)
    pair.upstreams["chat"].chunks.put_nowait(b"data: 1\n\n")
    pair.upstreams["chat"].chunks.put_nowait(None)
    for raw, status in (
        (request(BODY, PAGE), 200),
        (stream, 200),
        (request(b'{"model":"nope"}', PAGE), 404),
        (head(PAGE, method=b"GET", path=b"/v1/models"), 200),
        (head(PAGE, b"Content-Length: 999999999"), 413),
        (request(b"{", PAGE), 400),
    ):
        answer = await ask(pair, raw)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, told)
        assert answer.headers["access-control-expose-headers"] == "*"
        assert (answer.headers.get("vary") == "Origin") == (told != "*")


async def test_a_page_that_is_not_let_in_where_others_are_reads_nothing(pair: Box) -> None:
    await allow(pair, ORIGIN)
    evil = b"Origin: https://evil.example.com"
    assert (await preflight(pair, origin=evil)).status == 403
    answer = await ask(pair, request(BODY, evil))
    assert not permissions(answer)
    # Caches must not give it what was meant for another.
    assert answer.headers["vary"] == "Origin"


async def test_options_says_what_may_be_done(pair: Box) -> None:
    for path, allowed in (
        (PATH, "POST, OPTIONS"),
        (b"/v1/models", "GET, HEAD, OPTIONS"),
        (b"/healthz", "GET, HEAD, OPTIONS"),
    ):
        answer = await ask(pair, head(method=b"OPTIONS", path=path))
        assert (answer.status, answer.headers["allow"]) == (204, allowed)
    assert (await ask(pair, head(method=b"OPTIONS", path=b"*"))).status == 204
    assert (await ask(pair, head(method=b"OPTIONS", path=b"/nowhere"))).status == 404
    assert not pair.upstreams["chat"].seen


async def test_head_is_get_without_the_body(pair: Box) -> None:
    for path in (b"/healthz", b"/readyz", b"/v1/models", b"/v1/models/chat", b"/metrics"):
        talk = await wire(pair)
        replies = []
        for method in (b"HEAD", b"GET"):
            await talk.send(head(method=method, path=path))
            replies.append(await talk.reply(to_head=method == b"HEAD"))
        assert (replies[0].status, replies[0].body) == (200, b"")
        assert replies[0].headers.keys() == replies[1].headers.keys()
        assert replies[1].body
    assert (await ask(pair, head(method=b"HEAD"), to_head=True)).status == 405


async def test_a_connection_is_kept_until_either_side_says_otherwise(pair: Box) -> None:
    talk = await wire(pair)
    for _ in range(3):
        await talk.send(request())
        assert "connection" not in (await talk.reply()).headers
        await talk.send(request(b'{"model":"nope"}'))
        assert (await talk.reply()).status == 404
        await talk.send(head(method=b"GET", path=b"/v1/models"))
        assert (await talk.reply()).status == 200
    await talk.send(request(BODY, b"Connection: close"))
    assert (await talk.reply()).headers["connection"] == "close"
    assert await talk.closed()


async def test_a_client_of_http_1_0_is_answered_and_closed(pair: Box) -> None:
    raw = request().replace(b"HTTP/1.1", b"HTTP/1.0")
    talk = await wire(pair, raw)
    answer = await talk.until(b"\r\n\r\n")
    assert answer.split(b" ", 2)[1] == b"200"
    assert b"chunked" not in answer
    assert b'"served_by"' in await talk.reader.read()


async def test_who_waits_for_permission_gets_it_or_the_answer(pair: Box) -> None:
    expects = head(b"Content-Length: %d" % len(BODY), b"Expect: 100-continue")
    talk = await wire(pair, expects)
    assert (await talk.reply()).status == 100
    await talk.send(BODY)
    assert (await talk.reply()).status == 200
    # Who does not wait after all gets both.
    await talk.send(expects + BODY)
    assert [(await talk.reply()).status for _ in range(2)] == [100, 200]
    refused = await ask(pair, head(b"Content-Length: 999999999", b"Expect: 100-continue"))
    assert refused.status == 413
    other = await ask(pair, request(BODY, b"Expect: miracles"))
    assert (other.status, other.code) == (417, "expectation_failed")


async def test_an_offer_to_upgrade_is_declined_by_answering(pair: Box) -> None:
    for lines in (
        (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
        (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"),
    ):
        talk = await wire(pair, request(BODY, *lines))
        assert (await talk.reply()).status == 200
        await talk.send(request())
        assert (await talk.reply()).status == 200
    for seen in pair.upstreams["chat"].seen:
        assert not {"upgrade", "http2-settings"} & {name.lower() for name in seen.headers}


async def test_there_are_no_tunnels(pair: Box) -> None:
    talk = await wire(pair, head(method=b"CONNECT", path=b"chat:80") + request())
    answer = await talk.reply()
    assert (answer.status, answer.headers["connection"]) == (405, "close")
    assert await talk.closed()
    assert not pair.upstreams["chat"].seen


async def test_pipelined_requests_of_both_sides_are_answered_in_order(pair: Box) -> None:
    engine = pair.upstreams["chat"]
    engine.gate.clear()
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    talk = await wire(
        pair,
        request()
        + head(method=b"GET", path=b"/healthz")
        + head(b"Transfer-Encoding: chunked", b"Content-Type: application/json")
        + chunk
        + request(b'{"model":"nope"}')
        + request(b'{"model":"coder"}')
        + head(method=b"OPTIONS")
        + request(),
    )
    await engine.arrived.wait()
    await asked(pair)
    assert not pair.upstreams["coder"].seen
    engine.gate.set()
    statuses = [(await talk.reply()).status for _ in range(7)]
    assert statuses == [200, 200, 200, 404, 200, 204, 200]
    assert len(engine.seen) == 3
