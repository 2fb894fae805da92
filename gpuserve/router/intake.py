"""Takes a request in: its head and its body within the limits, or the reason why not."""

import asyncio
from types import TracebackType
from typing import Self, cast

from aiohttp import StreamReader, web
from aiohttp.http import HttpVersion11
from aiohttp.http_exceptions import HttpProcessingError

from gpuserve.profile.spec import LimitsSpec
from gpuserve.router import limits as refusals
from gpuserve.router.limits import HEAD_BYTES, Bodies, TurnedAway
from gpuserve.router.server import Connection
from gpuserve.routing.choose import Refusal


class Held:
    """The body of one request, counted among *bodies* until it is let go.

    `raw` is what came, `sent` what goes to the engine. Both are held until the head of an answer
    is there: up to then they may have to be sent again.
    """

    __slots__ = ("_bodies", "_counted", "raw", "sent")

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._counted = 0
        self.raw = self.sent = b""

    def count(self, size_bytes: int) -> int:
        """Count *size_bytes* more as held; the bytes that the worker holds now."""
        self._counted += size_bytes
        self._bodies.held_bytes += size_bytes
        return self._bodies.held_bytes

    def let_go(self) -> None:
        """Forget the body."""
        self.raw = self.sent = b""
        self._bodies.held_bytes -= self._counted
        self._counted = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.let_go()


def check_head(request: web.BaseRequest) -> None:
    """Raise TurnedAway where the head is larger or says more than is taken here.

    aiohttp has read it strictly (it refuses what RFC 9112 does not allow), except for these.
    """
    size = sum(len(name) + len(value) + 4 for name, value in request.raw_headers)
    if size + len(request.raw_path) > HEAD_BYTES:
        raise TurnedAway(refusals.head_too_large())
    coding = request.headers.get("transfer-encoding")
    if coding is not None and coding.lower() != "chunked":
        raise TurnedAway(refusals.no_request("Transfer-Encoding must be chunked"))
    if request.method == "CONNECT":
        raise TurnedAway(refusals.no_tunnel())
    expect = request.headers.get("expect")
    if expect is not None and expect.lower() != "100-continue":
        raise TurnedAway(refusals.unexpected(expect))


async def read_body(request: web.BaseRequest, limits: LimitsSpec, held: Held) -> None:
    """Put the whole body into *held*.

    Raises TurnedAway as soon as it is known to exceed a limit, where it breaks HTTP (a chunk
    without a length, a Content-Encoding that is not what it says), and where it is late.
    """
    announced = request.content_length or 0
    if announced > limits.max_body_bytes:
        raise TurnedAway(refusals.body_too_large(limits.max_body_bytes))
    if held.count(0) + announced > limits.max_buffered_bytes:
        raise TurnedAway(refusals.bodies_full(limits.max_buffered_bytes))
    if not request.can_read_body:
        return
    waits = "expect" in request.headers and request.version >= HttpVersion11
    if waits and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        with cast("Connection", request.protocol).reading(request.content):
            async with asyncio.timeout(limits.body_timeout_s):
                held.raw = await _whole(request.content, limits, held)
    except TimeoutError as error:
        raise TurnedAway(refusals.body_late(limits.body_timeout_s)) from error
    except (HttpProcessingError, web.RequestPayloadError) as error:
        message = f"the body cannot be read: {_told(error)}"
        refusal = Refusal(status=400, code="invalid_body", message=message)
        raise TurnedAway(refusal) from error


async def _whole(content: StreamReader, limits: LimitsSpec, held: Held) -> bytes:
    body = bytearray()  # not a list: chunks may be of one byte each
    while chunk := await content.readany():
        if len(body) + len(chunk) > limits.max_body_bytes:
            raise TurnedAway(refusals.body_too_large(limits.max_body_bytes))
        if held.count(len(chunk)) > limits.max_buffered_bytes:
            raise TurnedAway(refusals.bodies_full(limits.max_buffered_bytes))
        body += chunk
    return bytes(body)


def _told(error: Exception) -> str:
    message = getattr(error, "message", None) or str(error)
    return " ".join(message.split())[:200]
