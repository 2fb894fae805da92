"""The public endpoint's server: aiohttp's, but what is no HTTP gets an error in OpenAI's shape.

Nothing is logged about it: whoever reaches the port can send nonsense, and the fault is not ours.
"""

import asyncio
import uuid
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gpuserve.router.apierrors import error_response
from gpuserve.routing.choose import Refusal

_MESSAGE_CHARS = 200


class PublicServer(web.Server):
    """Hands each request to *handler*, which is cancelled when its client leaves.

    *options* are those of aiohttp's RequestHandler.
    """

    def __init__(self, handler: Any, **options: Any) -> None:
        super().__init__(handler, handler_cancellation=True, **options)
        self._options = options

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of one new connection."""
        return _Connection(self, loop=asyncio.get_running_loop(), **self._options)


class _Connection(web.RequestHandler):
    __slots__ = ()

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
        # aiohttp quotes what it read and points at the fault on lines of their own.
        told = " ".join((message or "").partition("\n")[0].split()).rstrip(":")[:_MESSAGE_CHARS]
        refusal = Refusal(
            status=status, code="bad_request", message=f"this is no HTTP request: {told}"
        )
        response = error_response("openai", refusal, uuid.uuid4().hex)
        response.force_close()
        return response
