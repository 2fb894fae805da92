"""Takes a request in: its body within the limit, and what it needs, or the reason why not."""

import asyncio
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gpuserve.routing.body import BadBody, parse_object
from gpuserve.routing.choose import Refusal
from gpuserve.routing.form import form_model
from gpuserve.routing.request import NO_HEADERS, Need, need_of, task_of, text_bytes
from gpuserve.units import MIB

# From here on, work over a body leaves the event loop: up to this it takes a few milliseconds,
# which is less than handing it over costs everybody else.
ASIDE_BYTES = 1 << 20

_P = ParamSpec("_P")
_T = TypeVar("_T")


class TooLarge(Exception):
    """The body is larger than the limit; it was not read to its end."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the body is larger than {limit_bytes / MIB:g} MiB")


async def aside(size_bytes: int, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Return what *work* returns, from a thread where it is about a body of many bytes.

    Streams and the control socket go on meanwhile. *work* must touch nothing that changes.
    """
    if size_bytes <= ASIDE_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


async def read_body(request: web.BaseRequest, limit_bytes: int) -> bytes:
    """Return the whole body.

    Raises TooLarge as soon as it is known to exceed *limit_bytes*, BadBody where it breaks HTTP
    (a chunk without a length, a Content-Encoding that is not what it says).
    """
    if request.content_length is not None and request.content_length > limit_bytes:
        raise TooLarge(limit_bytes)
    if request.headers.get("expect", "").lower() == "100-continue" and request.transport:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if not request.can_read_body:
        return b""
    body = bytearray()  # not a list: chunks may be of one byte each
    try:
        while chunk := await request.content.readany():
            if len(body) + len(chunk) > limit_bytes:
                raise TooLarge(limit_bytes)
            body += chunk
    except (HttpProcessingError, web.RequestPayloadError) as error:
        raise BadBody(f"the body cannot be read: {_told(error)}") from error
    return bytes(body)


def need_from(
    method: str,
    path: str,
    content_type: str,
    raw: bytes,
    headers: Mapping[str, str] = NO_HEADERS,
) -> Need | Refusal:
    """Return what the request needs, or a 400 that says what is wrong with its body.

    *content_type* is the header, "" where there is none. *headers* are all of them, with names
    in lower case or looked up whatever the case: rules may ask for any.
    """
    try:
        if content_type.partition(";")[0].strip().lower() == "multipart/form-data":
            return Need(task="other", model=form_model(raw, content_type))
        if not raw and (method != "POST" or task_of(path) == "other"):
            return Need(task="other")
        return need_of(path, parse_object(raw), text_bytes(raw), headers)
    except BadBody as error:
        return Refusal(status=400, code="invalid_body", message=str(error))


def _told(error: Exception) -> str:
    message = getattr(error, "message", None) or str(error)
    return " ".join(message.split())[:200]
