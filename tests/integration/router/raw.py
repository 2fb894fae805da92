"""Requests as bytes: what a client library would never send, and what comes back."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.integration.router.conftest import Box

PATH = b"/v1/chat/completions"
BODY = b'{"model":"chat"}'


def head(*lines: bytes, method: bytes = b"POST", path: bytes = PATH, host: bool = True) -> bytes:
    """Return a head of HTTP/1.1 with *lines*, and a Host unless one is not wanted."""
    first = b"%s %s HTTP/1.1" % (method, path)
    return b"\r\n".join([first, *([b"Host: x"] if host else []), *lines]) + b"\r\n\r\n"


def request(body: bytes = BODY, *lines: bytes, path: bytes = PATH) -> bytes:
    """Return a whole request with a Content-Length."""
    kind = b"Content-Type: application/json"
    return head(kind, b"Content-Length: %d" % len(body), *lines, path=path) + body


def chunked(*chunks: bytes, trailers: Sequence[bytes] = (), path: bytes = PATH) -> bytes:
    """Return a whole request whose body is *chunks*."""
    sent = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    last = b"".join([b"0\r\n", *(line + b"\r\n" for line in trailers), b"\r\n"])
    lines = (b"Content-Type: application/json", b"Transfer-Encoding: chunked")
    return head(*lines, path=path) + sent + last


@dataclass(frozen=True)
class Reply:
    """One answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> Any:
        return self.json["error"]["code"]


class Wire:
    """A connection of a client that says what it likes. Everything has a deadline of 20 s."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        async with asyncio.timeout(20):
            await self.writer.drain()

    async def reply(self, *, to_head: bool = False) -> Reply:
        """Return the next answer; *to_head*: the request was a HEAD, so there is no body."""
        async with asyncio.timeout(20):
            raw = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = raw[:-4].decode("latin-1").split("\r\n")
            version, status, *_ = first.split(" ", 2)
            assert version == "HTTP/1.1", first
            headers: dict[str, str] = {}
            for line in lines:
                name, value = line.split(": ", 1)
                assert name.lower() not in headers, f"{name} stands twice"
                headers[name.lower()] = value
            return Reply(int(status), headers, b"" if to_head else await self.body(status, headers))

    async def until(self, what: bytes) -> bytes:
        """Return everything up to *what*."""
        async with asyncio.timeout(20):
            return await self.reader.readuntil(what)

    async def body(self, status: str, headers: dict[str, str]) -> bytes:
        """Return what follows a head."""
        async with asyncio.timeout(20):
            return await self._body(status, headers)

    async def _body(self, status: str, headers: dict[str, str]) -> bytes:
        if status.startswith("1") or status in ("204", "304"):
            return b""
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        if headers.get("transfer-encoding") != "chunked":
            return await self.reader.read()
        body = b""
        while size := int((await self.reader.readuntil(b"\r\n"))[:-2].partition(b";")[0], 16):
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"
        return body

    async def closed(self) -> bool:
        """Whether the router closes now, having said no more."""
        async with asyncio.timeout(20):
            try:
                return await self.reader.read(1) == b""
            except ConnectionResetError:
                return True

    def abort(self) -> None:
        self.writer.transport.abort()


async def wire(box: Box, raw: bytes = b"", *, limit: int = 1 << 16) -> Wire:
    """Connect, send *raw*, and return the connection; closed at the end of the test."""
    host, port = box.listening.getsockname()
    reader, writer = await asyncio.open_connection(host, port, limit=limit)
    box.stack.callback(writer.close)
    talk = Wire(reader, writer)
    await talk.send(raw)
    return talk


async def ask(box: Box, raw: bytes, *, to_head: bool = False) -> Reply:
    """Send *raw* on a connection of its own and return the answer."""
    return await (await wire(box, raw)).reply(to_head=to_head)


async def untouched(box: Box) -> bool:
    """Whether the router is well and no upstream was asked anything."""
    answer = await ask(box, head(method=b"GET", path=b"/healthz"))
    return answer.status == 200 and not any(fake.seen for fake in box.upstreams.values())


async def asked(box: Box, times: int = 20) -> None:
    """Return when the worker's loop has turned *times*: it has read what was sent."""
    for _ in range(times):
        await box.control("GET", "/upstreams")
