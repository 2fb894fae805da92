"""The public endpoint's server: aiohttp's, with deadlines and limits that it does not have.

What is no HTTP gets an error in OpenAI's shape. Nothing is logged about it: whoever reaches the
port can send nonsense, and the fault is not ours.

aiohttp tells a subclass nothing about heads that are not whole, and forgets the body that is being
read when a later packet breaks its framing. So this looks at four of its private attributes
(`_waiter`, `_messages`, `_request_count`, `_force_close`), which are there in 3.14.
"""

import asyncio
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.http import HttpVersion11
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from gpuserve.profile.spec import LimitsSpec
from gpuserve.router import limits as refusals
from gpuserve.router.apierrors import error_response
from gpuserve.router.fast.refusals import refusal_bytes
from gpuserve.router.headers import SERVER
from gpuserve.router.limits import HEAD_BYTES
from gpuserve.routing.choose import Refusal

_MESSAGE_CHARS = 200
# What aiohttp's parsers say where there are more than its `max_headers`.
_TOO_MANY = "Too many headers"


class PublicServer(web.Server):
    """Hands each request to *handler*, which is cancelled when its client leaves.

    *limits* are asked for whenever a head begins; *count* is told what is refused here. *options*
    are those of aiohttp's RequestHandler. The head counts as a whole, however many lines it has
    and however long they are.
    """

    def __init__(
        self,
        handler: Any,
        limits: Callable[[], LimitsSpec],
        count: Callable[[Refusal], None],
        **options: Any,
    ) -> None:
        options |= {"max_line_size": HEAD_BYTES, "max_field_size": HEAD_BYTES}
        options |= {"max_headers": HEAD_BYTES // 4}  # a line has four bytes at least
        options |= {"lingering_time": refusals.LINGER_S}
        super().__init__(handler, handler_cancellation=True, request_factory=_request, **options)
        self.limits = limits
        self.count = count
        self._options = options

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of one new connection."""
        return Connection(self, loop=asyncio.get_running_loop(), **self._options)


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_broken", "_head_bytes", "_head_timer", "_reading", "_server")

    def __init__(self, server: PublicServer, **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._broken: web.RequestPayloadError | None = None
        self._reading: StreamReader | None = None

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        if self._force_close or self._close:
            return
        known = self._request_count
        super().data_received(data)
        if self._request_count != known:
            self._head_over()
            self._break_body()
        elif data and self._idle():
            # And yet no request is whole: this is a piece of a head.
            self._head_grew(len(data))

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._head_over()
        super().connection_lost(exc)

    def _idle(self) -> bool:
        # The task that waits for requests begins after the connection does.
        waiter = self._waiter
        return self._request_count == 0 or (waiter is not None and not waiter.done())

    def _head_grew(self, size: int) -> None:
        limits = self._server.limits()
        if self._head_timer is None:
            self._head_timer = asyncio.get_running_loop().call_later(
                limits.head_timeout_s, self._head_late, limits.head_timeout_s
            )
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            self._turn_away(refusals.head_too_large())

    def _head_late(self, limit_s: float) -> None:
        self._turn_away(refusals.head_late(limit_s))

    def _head_over(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _turn_away(self, refusal: Refusal) -> None:
        """Answer a request that has no whole head, and close."""
        self._head_over()
        if self.transport is not None:
            self._server.count(refusal)
            answer = refusal_bytes("", refusal, uuid.uuid4().hex.encode(), b"", closing=True)
            self.transport.write(answer)
        self.force_close()

    def _break_body(self) -> None:
        """Tell who reads a body that its framing is broken; aiohttp only queues the error."""
        error = getattr(self._messages[-1][0], "exc", None) if self._messages else None
        if isinstance(error, HttpProcessingError):
            self._broken = web.RequestPayloadError(_told(error.message))
            if self._reading is not None:
                self._reading.set_exception(self._broken)

    @contextmanager
    def reading(self, body: StreamReader) -> Iterator[None]:
        """While *body* is read: have a fault in its framing raised to who reads it."""
        if self._broken is not None and not body.is_eof():
            body.set_exception(self._broken)
        self._reading = body
        try:
            yield
        finally:
            self._reading = None

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log a fault of ours; a body that is not encoded as it says has been answered."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to what could not be read as a request; the connection ends with it."""
        if not isinstance(exc, HttpProcessingError) or request.writer.output_size:
            return super().handle_error(request, status, exc, message)
        long = isinstance(exc, LineTooLong) or (message or "").startswith(_TOO_MANY)
        refusal = refusals.head_too_large() if long else refusals.no_request(_told(message or ""))
        self._server.count(refusal)
        response = error_response("openai", refusal, uuid.uuid4().hex)
        response.headers["Server"] = SERVER
        response.force_close()
        return response


def _request(
    message: Any,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: Any,
    task: "asyncio.Task[None]",
) -> web.BaseRequest:
    if isinstance(getattr(message, "method", None), str) and message.method == "UNKNOWN":
        # aiohttp answers what it cannot read as HTTP/1.0.
        message = message._replace(version=HttpVersion11)
    return web.BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop())


def _told(message: str) -> str:
    # aiohttp quotes what it read and points at the fault on lines of their own.
    return " ".join(message.partition("\n")[0].split()).rstrip(":")[:_MESSAGE_CHARS]
