"""Where one request ends and the next begins: nothing doubtful is read, guessed at or passed on."""

import pytest

from tests.integration.router.conftest import Box
from tests.integration.router.raw import BODY, asked, chunked, head, request, untouched, wire

GET = b"GET /healthz HTTP/1.1\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
LENGTH = b"Content-Length: %d" % len(BODY)

NO_REQUESTS = {
    "length and chunked": head(LENGTH, CHUNKED) + BODY,
    "chunked and length": head(CHUNKED, LENGTH) + b"0\r\n\r\n",
    "two lengths": head(b"Content-Length: 2", b"Content-Length: 5") + b"{}xxx",
    "the same length twice": head(LENGTH, LENGTH) + BODY,
    "a list of lengths": head(b"Content-Length: 16, 16") + BODY,
    "a signed length": head(b"Content-Length: +16") + BODY,
    "a negative length": head(b"Content-Length: -1"),
    "a hexadecimal length": head(b"Content-Length: 0x10") + BODY,
    "a length with a space": head(b"Content-Length: 1 6") + BODY,
    "a length with an underscore": head(b"Content-Length: 1_6") + BODY,
    "an empty length": head(b"Content-Length:") + BODY,
    "a length in foreign digits": head("Content-Length: ١٦".encode()) + BODY,
    "a length beyond 64 bits": head(b"Content-Length: " + b"9" * 30) + BODY,
    "an unknown coding": head(b"Transfer-Encoding: xchunked") + b"0\r\n\r\n",
    "a coding behind chunked": head(b"Transfer-Encoding: chunked, identity") + b"0\r\n\r\n",
    "a coding before chunked": head(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
    "chunked twice": head(CHUNKED, CHUNKED) + b"0\r\n\r\n",
    "chunked twice in one": head(b"Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n",
    "chunked and identity": head(CHUNKED, b"Transfer-Encoding: identity") + b"0\r\n\r\n",
    "identity": head(b"Transfer-Encoding: identity") + b"0\r\n\r\n",
    "chunked with a parameter": head(b"Transfer-Encoding: chunked;q=1") + b"0\r\n\r\n",
    "chunked behind a vertical tab": head(b"Transfer-Encoding: \x0bchunked") + b"0\r\n\r\n",
    "chunked under HTTP/1.0": b"POST / HTTP/1.0\r\nHost: x\r\n" + CHUNKED + b"\r\n\r\n0\r\n\r\n",
    "space before the colon": head(b"Transfer-Encoding : chunked") + b"0\r\n\r\n",
    "tab before the colon": head(b"X-A\t: b"),
    "no colon": head(b"X-A"),
    "an empty name": head(b": b"),
    "a folded line": head(b"X-A: b\r\n c"),
    "a folded length": head(b"Content-Length:\r\n 16") + BODY,
    "a first header that is folded": GET + b" Host: x\r\n\r\n",
    "a line that ends in LF": GET + b"Host: x\nX-A: b\r\n\r\n",
    "lines that all end in LF": b"GET /healthz HTTP/1.1\nHost: x\n\n",
    "a bare CR in a value": head(b"X-A: b\rContent-Length: 5"),
    "a NUL in a value": head(b"X-A: b\0c"),
    "a NUL in a name": head(b"X-\0A: b"),
    "a control character in a value": head(b"X-A: b\x01c"),
    "a DEL in a value": head(b"X-A: b\x7fc"),
    "a name that is no token": head(b"X(A): b"),
    "a name beyond ASCII": head("X-Ä: b".encode()),
    "no Host": head(host=False),
    "two Hosts": head(b"Host: y"),
    "the same Host twice": head(b"Host: x"),
    "a target with a space": b"GET /health z HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target with a tab": b"GET /health\tz HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target with a control character": b"GET /health\x01z HTTP/1.1\r\nHost: x\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: x\r\n\r\n",
    "no version": b"GET /healthz\r\nHost: x\r\n\r\n",
    "a version in lower case": b"GET /healthz http/1.1\r\nHost: x\r\n\r\n",
    "a version of two digits": b"GET /healthz HTTP/1.10\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a method that is no token": b"G(T /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS\r\n\r\n",
    "one word": b"GET\r\n\r\n",
}


async def test_what_is_no_request_is_a_400_and_the_end(pair: Box) -> None:
    for name, raw in NO_REQUESTS.items():
        talk = await wire(pair, raw + request())
        answer = await talk.reply()
        assert (name, answer.status, answer.code) == (name, 400, "bad_request")
        assert answer.json["error"]["type"] == "invalid_request_error", name
        assert "\n" not in answer.json["error"]["message"], name
        assert answer.headers["x-request-id"], name
        assert answer.headers["connection"] == "close", name
        assert await talk.closed(), name
    assert await untouched(pair)


CHUNKS = {
    "no digits": b"ZZ\r\n{}\r\n0\r\n\r\n",
    "a sign": b"+2\r\n{}\r\n0\r\n\r\n",
    "a minus": b"-2\r\n{}\r\n0\r\n\r\n",
    "a prefix": b"0x2\r\n{}\r\n0\r\n\r\n",
    "a space before": b" 2\r\n{}\r\n0\r\n\r\n",
    "a space behind": b"2 \r\n{}\r\n0\r\n\r\n",
    "an underscore": b"0_2\r\n{}\r\n0\r\n\r\n",
    "an empty size": b"\r\n{}\r\n0\r\n\r\n",
    "a size beyond 64 bits": b"1" + b"0" * 16 + b"\r\n{}\r\n0\r\n\r\n",
    "a size that ends in LF": b"2\n{}\r\n0\r\n\r\n",
    "an extension with LF": b"2;a\nb\r\n{}\r\n0\r\n\r\n",
    "more than it says": b"2\r\n{}}\r\n0\r\n\r\n",
    "no CRLF behind it": b"2\r\n{}0\r\n\r\n",
    "LF behind it": b"2\r\n{}\n0\r\n\r\n",
    "a trailer that is no header": b"2\r\n{}\r\n0\r\nno trailer\r\n\r\n",
    "a trailer with a bare LF": b"2\r\n{}\r\n0\r\nA: b\n\r\n",
}


@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
async def test_a_bad_chunk_is_a_400_and_the_end(pair: Box, *, later: bool) -> None:
    start = head(b"Content-Type: application/json", CHUNKED)
    for name, chunks in CHUNKS.items():
        talk = await wire(pair, start if later else start + chunks + request())
        if later:
            await asked(pair)  # the worker has the head now, and waits for the rest
            await talk.send(chunks + request())
        answer = await talk.reply()
        assert (name, answer.status) == (name, 400)
        assert answer.code in ("bad_request", "invalid_body"), name
        assert await talk.closed(), name
    assert await untouched(pair)


async def test_a_bad_chunk_behind_good_ones_is_a_400_too(pair: Box) -> None:
    talk = await wire(pair, head(CHUNKED) + b"2\r\n{ \r\n")
    await asked(pair)
    await talk.send(b"5\r\n     \r\n")
    await asked(pair)
    await talk.send(b"G\r\n")
    assert (await talk.reply()).status == 400
    assert await talk.closed()
    assert await untouched(pair)


async def test_a_chunked_request_reaches_the_engine_with_a_length(pair: Box) -> None:
    sent = chunked(BODY[:3], BODY[3:4], BODY[4:], trailers=[b"X-Checksum: 1"])
    talk = await wire(pair, sent)
    assert (await talk.reply()).status == 200
    await talk.send(request())  # and the connection goes on
    assert (await talk.reply()).status == 200
    first, _ = pair.upstreams["chat"].seen
    assert first.body == BODY
    assert first.headers["Content-Length"] == str(len(BODY))
    assert not {"Transfer-Encoding", "X-Checksum", "Trailer"} & first.headers.keys()


async def test_a_request_cut_at_any_byte_is_the_same_request(pair: Box) -> None:
    for raw in (request(), chunked(BODY[:5], BODY[5:])):
        talk = await wire(pair)
        for cut in range(1, len(raw), 3):
            await talk.send(raw[:cut])
            await asked(pair, 1)
            await talk.send(raw[cut:])
            assert (await talk.reply()).status == 200
    assert {seen.body for seen in pair.upstreams["chat"].seen} == {BODY}


async def test_extensions_of_chunks_are_ignored(pair: Box) -> None:
    raw = head(b"Content-Type: application/json", CHUNKED)
    raw += b'%x;a=b;c="d"\r\n%s\r\n0;e\r\n\r\n' % (len(BODY), BODY)
    talk = await wire(pair, raw)
    assert (await talk.reply()).status == 200
    assert pair.upstreams["chat"].seen[0].body == BODY
