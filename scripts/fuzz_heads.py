#!/usr/bin/env python3
"""Feeds requests, good and twisted, to the router's parser, aiohttp's and h11's, and compares.

    python -m scripts.fuzz_heads                 a million requests, some minutes
    python -m scripts.fuzz_heads --heads 1000 --seed 7

What must hold (`disagreement` says what does not):

- A head that is carried by bytes is taken by both others, as it came and as it is sent on. They
  read the same method, target and fields, the same body, and find the next request at the same
  byte; and they agree on whether the connection is kept.
- A request for the slow side ends where aiohttp says, if aiohttp takes it at all.
- A head that a template takes is one that the parser takes, and reads in the same way.
- A chunked body ends where aiohttp says, if aiohttp takes it at all.

What is refused, or left to aiohttp without a word on where it ends, may be stricter.
Exit status 1: there was a disagreement; it is printed with the bytes that show it.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from random import Random

import h11
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError

from gpuserve.router.chunks import Chunks
from gpuserve.router.head import CHUNKED, UNSURE, Bad, Head, Slow, Template, read_head

NEXT = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n"
_EVIL = b"POST /v1/completions HTTP/1.1\r\nHost: evil\r\nContent-Length: 0\r\n\r\n"
_LIMIT = 1 << 16

_FIRST = (
    b"POST /v1/chat/completions HTTP/1.1",
    b"POST /v1/completions HTTP/1.1",
    b"POST /v1/messages HTTP/1.1",
    b"POST /v1/embeddings HTTP/1.1",
)
_OTHER_FIRST = (
    b"GET /v1/models HTTP/1.1",
    b"POST /v1/rerank?a=b HTTP/1.1",
    b"POST /v1/messages?beta=true HTTP/1.1",
    b"POST /v1/completions? HTTP/1.1",
    b"POST /v1/completions?a=%zz&b=?#c HTTP/1.1",
    b"POST /v1/chat/completions HTTP/1.0",
    b"POST  /v1/chat/completions HTTP/1.1",
    b"post /v1/chat/completions HTTP/1.1",
    b"POST http://a/v1/chat/completions HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"CONNECT a:1 HTTP/1.1",
    b"POST /v1/chat/completions",
    b"",
)
_PLAIN = (
    b"Content-Type: application/json",
    b"Accept: */*",
    b"Accept-Encoding: gzip, deflate",
    b"User-Agent: OpenAI/Python 1.50",
    b"Authorization: Bearer sk-0123456789",
    b"X-Stainless-Lang: python",
    b"X-Empty:",
    b"x-tab:\tvalue\twith\ttabs\t",
    b"X-Latin: caf\xe9",
    b"X-Utf8: \xe4\xb8\xad",
    b"Cookie: a=b; c=d",
    b"Via: 1.1 a, 1.1 b",
)
_CONNECTIONS = (
    b"Connection: keep-alive",
    b"Connection: close",
    b"Connection: Close",
    b"Connection: keep-alive, X-Hop",
    b"Connection: close, keep-alive",
    b"Connection:",
    b"Connection: \tclose ",
    b"Connection: upgrade",
    b"Keep-Alive: timeout=5",
    b"Proxy-Connection: keep-alive",
    b"TE: trailers",
    b"Trailer: X-A",
    b"Upgrade: h2c",
    b"Upgrade: websocket",
    b"Expect: 100-continue",
    b"X-Request-Id: mine",
    b"X-Request-Id: not one",
    b"X-Gpuserve-Model: forged",
    b"Origin: https://a",
    b"Content-Encoding: gzip",
    b"Proxy-Authorization: Basic x",
)
_CODINGS = (
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: Chunked",
    b"Transfer-Encoding: chunked ",
    b"Transfer-Encoding:chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding:\r\n chunked",
    b"X-Transfer-Encoding: chunked",
    b"Transfer-Encoding;: chunked",
    b"Transfer_Encoding: chunked",
)
_HOSTS = (b"Host: x", b"host: x:8000", b"HOST:x", b"Host:", b"Host: a b", b"Host : x")
_TWISTS = (
    *(b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"\x0b", b"\x7f"),
    *(b"\x80", b"\xff", b"\r\n ", b"\r\n\t", b"Content-Length: 5\r\n", b"0", b"+", b"-", b"x"),
)
_SIZES = (
    *(b"%x", b"%X", b"0%x", b"%x;a=b", b'%x;a="b"', b"%x ", b" %x", b"+%x", b"0x%x", b"%x\t"),
    *(b"%x;\x01", b"-%x", b"%x\r", b"%xg"),
)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a parser reads a request: `fields` in lower case and stripped, in their order."""

    method: bytes
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    close: bool
    lost: bool  # a request behind it is not found


def request(random: Random) -> bytes:
    """Return one request, twisted more or less, with another one behind it."""
    first = random.choice(_FIRST) if random.random() < 0.9 else random.choice(_OTHER_FIRST)
    body = random.choice((b"{}", b'{"model":"m"}', _EVIL, _EVIL * 2, b"", b"0\r\n\r\n" + _EVIL))
    lines = [random.choice(_HOSTS[:3]), *random.sample(_PLAIN, random.randint(0, 5))]
    roll = random.random()
    if roll < 0.75:
        lines.append(_length(random, len(body)))
    elif roll < 0.9:
        lines.append(random.choice(_CODINGS))
        body = chunked(random)
    for pool, chance in ((_CONNECTIONS, 0.4), (_CODINGS, 0.03), (_HOSTS, 0.05)):
        if random.random() < chance:
            lines.append(random.choice(pool))
    if random.random() < 0.05:
        lines.append(_length(random, len(body)))
    random.shuffle(lines)
    head = b"\r\n".join((first, *lines)) + b"\r\n\r\n"
    if random.random() < 0.4:
        head = twisted(random, head)
    return head + body + NEXT


def chunked(random: Random) -> bytes:
    """Return a chunked body, twisted now and then."""
    out = b""
    for _ in range(random.randint(0, 3)):
        data = random.choice((b"{}", b'{"model":"m"}', _EVIL, b"\r\n", b"0\r\n\r\n"))
        size = random.choice(_SIZES) if random.random() < 0.1 else b"%x"
        out += size % len(data) + b"\r\n" + data + b"\r\n"
    out += b"0\r\n" + random.choice((b"", b"", b"X-Trailer: 1\r\n", b"A: b\r\nC: d\r\n")) + b"\r\n"
    return twisted(random, out) if random.random() < 0.3 else out


def twisted(random: Random, raw: bytes) -> bytes:
    """Return *raw* with a few bytes put in, taken out or replaced."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        at = random.randint(0, len(raw))
        cut = random.choice((0, 0, 1, 1, 2, 5))
        put = random.choice(_TWISTS) if random.random() < 0.7 else b""
        raw = raw[:at] + put + raw[at + cut :]
    return raw


def _length(random: Random, size: int) -> bytes:
    if random.random() < 0.85:
        return b"Content-Length: %d" % size
    shape = random.choice(
        (
            *(b"Content-Length:%d", b"content-length: %d ", b"Content-Length: +%d"),
            *(b"Content-Length: 0%d", b"Content-Length: 0x%d", b"Content-Length: -%d"),
            *(b"Content-Length : %d", b"Content-Length: %d, %d", b"Content-Length: %d %d"),
            *(b"Content-Length:\r\n %d", b"Content-Length: %d\x00", b"Content-Length: %d_0"),
            *(b"Content-Length: %d99999999999999999999", b"Content-Length:", b"Content_Length: %d"),
            *(b"Content-Length: %d;", b"Content-Length: %d.0", b"Content-Length: \xb9%d"),
        )
    )
    return shape % ((size,) * shape.count(b"%d"))


class Judge:
    """Compares what three parsers make of the same bytes; `kinds` counts what ours made."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._templates: list[Template] = []

    def close(self) -> None:
        self._loop.close()

    def disagreement(self, raw: bytes) -> str | None:
        """Return what the parsers do not agree on, None if they agree."""
        found = read_head(raw)
        for template in self._templates:
            short = template.read(raw)
            if short is not None and short != found:
                return f"a template reads {short}, the parser {found}"
        match found:
            case Head():
                self.kinds["carried"] += 1
                if found.request_id is None:
                    self._templates = [*self._templates[-3:], Template(raw, found)]
                return self._carried(raw, found)
            case Slow(length=length) if length != UNSURE:
                self.kinds["slow"] += 1
                return self._slow(raw, found)
            case Bad():
                self.kinds["refused"] += 1
            case Slow():
                self.kinds["unsure"] += 1
            case None:
                self.kinds["not whole"] += 1
        return None

    def _carried(self, raw: bytes, head: Head) -> str | None:
        if head.length >= _LIMIT:
            return None
        body = raw[head.size :][: head.length].ljust(head.length, b"x")
        target = head.path.encode() + head.query
        sent = b"POST " + target + b" HTTP/1.1\r\nHost: e\r\n" + head.fields + b"\r\n"
        for said, start in (("as it came", raw[: head.size]), ("as it is sent on", sent)):
            for name, reading in (
                ("aiohttp", self.by_aiohttp(start + body)),
                ("h11", by_h11(start + body)),
            ):
                if isinstance(reading, str):
                    return f"{name} does not take it {said}: {reading}"
                if (reading.method, reading.target) != (b"POST", target):
                    return f"{name} reads another first line {said}"
                if reading.body != body or reading.lost:
                    return f"{name} finds another end of the body {said}"
                if said == "as it came" and reading.close != head.close:
                    return f"{name} thinks otherwise of keeping the connection"
                wanted = _fields(start[:-4])
                if reading.fields != wanted:
                    return f"{name} reads other fields {said}: {reading.fields} for {wanted}"
        return None

    def _slow(self, raw: bytes, slow: Slow) -> str | None:
        start, behind = raw[: slow.size], raw[slow.size :]
        if slow.length != CHUNKED:
            if slow.length >= _LIMIT:
                return None
            body = behind[: slow.length].ljust(slow.length, b"x")
            reading = self.by_aiohttp(start + body)
            if isinstance(reading, str):
                # Refused: the connection is closed. Waiting would be another thing.
                return reading if reading.startswith("it waits") else None
            same = reading.body == body and not reading.lost
            return None if same else "aiohttp finds another end of a request for the slow side"
        chunks = Chunks()
        chunks.feed(behind)
        if not chunks.done:
            reading = self.by_aiohttp(raw)
            fine = isinstance(reading, str)
            return None if fine else "aiohttp finds an end of a chunked body that is none here"
        self.kinds["chunked"] += 1
        reading = self.by_aiohttp(start + behind[: len(behind) - len(chunks.excess)])
        if isinstance(reading, str):
            return reading if reading.startswith("it waits") else None
        return "aiohttp finds another end of a chunked body" if reading.lost else None

    def by_aiohttp(self, raw: bytes) -> Reading | str:
        """Return how aiohttp's server reads *raw*, or why not."""
        parser = HttpRequestParser(
            BaseProtocol(self._loop),
            self._loop,
            _LIMIT,
            max_line_size=_LIMIT,
            max_field_size=_LIMIT,
            max_headers=_LIMIT,
            auto_decompress=False,
        )
        try:
            messages, _, _ = parser.feed_data(raw)
        except HttpProcessingError as error:
            return f"{type(error).__name__}: {error.message.splitlines()[0]}"
        if not messages:
            return "it waits for more of the head"
        message, payload = messages[0]
        if not payload.is_eof():
            return "it waits for more of the body"
        body = b""
        while not payload.at_eof():
            body += payload.read_nowait()
        lost = len(messages) > 1
        if not lost and not message.should_close:
            try:
                behind, _, _ = parser.feed_data(NEXT)
                lost = [found.path for found, _ in behind] != ["/next"]
            except HttpProcessingError as error:
                # It takes the last trailer for a field of the next request, here a second Host.
                lost = not (message.chunked and error.message.startswith("Duplicate 'Host'"))
        return Reading(
            message.method.encode(),
            message.path.encode("utf-8", "surrogateescape"),
            tuple((n.lower(), v.strip(b" \t")) for n, v in message.raw_headers),
            body,
            message.should_close,
            lost,
        )


def by_h11(raw: bytes) -> Reading | str:
    """Return how h11, which uvicorn is built on, reads *raw*, or why not."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_LIMIT)
    try:
        connection.receive_data(raw)
        event = connection.next_event()
        if not isinstance(event, h11.Request):
            return f"it waits for more of the head ({event})"
        body = b""
        while isinstance(part := connection.next_event(), h11.Data):
            body += bytes(part.data)
        if not isinstance(part, h11.EndOfMessage):
            return "it waits for more of the body"
    except h11.RemoteProtocolError as error:
        return str(error)
    return Reading(
        event.method,
        event.target,
        tuple((bytes(n), bytes(v)) for n, v in event.headers),
        body,
        connection.their_state is h11.MUST_CLOSE,
        connection.trailing_data[0] != b"",
    )


def _fields(head: bytes) -> tuple[tuple[bytes, bytes], ...]:
    pairs = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return tuple((name.lower(), value.strip(b" \t")) for name, _, value in pairs)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="the same seed, the same requests")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    args = parser.parse_args()
    random, judge = Random(args.seed), Judge()
    began = told = time.monotonic()
    wrong = 0
    for count in range(1, args.heads + 1):
        raw = request(random)
        why = judge.disagreement(raw)
        if why is not None:
            wrong += 1
            print(f"{why}\n  {raw!r}", file=sys.stderr)
            if wrong == 10:
                break
        if (now := time.monotonic()) - told > 10:
            told = now
            print(f"{count:,} of {args.heads:,}: {dict(judge.kinds)}", file=sys.stderr)
    judge.close()
    result = {
        "requests": count,
        "seed": args.seed,
        "seconds": round(time.monotonic() - began, 1),
        **judge.kinds,
        "disagreements": wrong,
    }
    print(json.dumps(result) if args.json else result)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
