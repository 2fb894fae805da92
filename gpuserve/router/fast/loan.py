"""One connection's stay with aiohttp: it gets its request, and the connection comes back."""

import asyncio
from typing import cast

from aiohttp import web

from gpuserve.router.chunks import Chunks
from gpuserve.router.fast.handover import Lent, is_idle
from gpuserve.router.head import CHUNKED, UNSURE


class Loan:
    """The connection behind *transport*, lent to *handler* for a request and what follows it.

    The body of the request is *length* bytes long, or that is CHUNKED or UNSURE: then the
    connection stays. `broken` says that its chunks are none.
    """

    __slots__ = ("_chunks", "_extent", "_lent", "broken", "handler")

    def __init__(
        self, transport: asyncio.Transport, handler: web.RequestHandler, length: int
    ) -> None:
        self.handler = handler
        self.broken = False
        self._lent = Lent(transport)
        self._extent = length  # bytes of the body that aiohttp still gets
        self._chunks = Chunks() if length == CHUNKED else None
        handler.connection_made(self._lent)

    @property
    def answering(self) -> bool:
        """Whether an answer has begun."""
        return self._lent.written

    def begin(self, data: bytes, size: int) -> bytes:
        """Give aiohttp the head of its request, *size* bytes, and what it gets of the rest."""
        if self._extent == UNSURE:
            self.handler.data_received(data)
            return b""
        self.handler.data_received(data[:size])
        return self.feed(data[size:])

    def feed(self, data: bytes) -> bytes:
        """Give aiohttp what belongs to its request.

        Return what follows it once aiohttp has answered, and is to be taken back; else nothing.
        """
        handler = self.handler
        if self._extent > 0:
            part = data[: self._extent]
            self._extent -= len(part)
            handler.data_received(part)
            data = data[len(part) :]
        elif self._chunks is not None:
            chunks = self._chunks
            chunks.feed(data)
            if chunks.failed:
                self.broken = True
                return b""
            if not chunks.done:
                handler.data_received(data)
                return b""
            excess = chunks.excess
            handler.data_received(data[: len(data) - len(excess)])
            self._chunks = None
            self._extent = 0
            data = excess
        if not data:
            return b""
        if self._extent == 0 and is_idle(handler):
            return data
        self._extent = UNSURE
        handler.data_received(data)
        return b""

    def end(self, exc: Exception | None = None) -> None:
        """Cut aiohttp off."""
        self._lent.take_back()
        cast("asyncio.Protocol", self.handler).connection_lost(exc)
