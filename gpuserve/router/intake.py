"""Takes a request in: its body within the limit, and what it needs, or the reason why not."""

from aiohttp import web

from gpuserve.routing.body import BadBody, form_model, parse_object
from gpuserve.routing.choose import Refusal
from gpuserve.routing.request import Need, need_of, task_of
from gpuserve.units import MIB


class TooLarge(Exception):
    """The body is larger than the limit; it was not read to its end."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the body is larger than {limit_bytes / MIB:g} MiB")


async def read_body(request: web.BaseRequest, limit_bytes: int) -> bytes:
    """Return the whole body; raises TooLarge as soon as it is known to exceed *limit_bytes*."""
    if request.content_length is not None and request.content_length > limit_bytes:
        raise TooLarge(limit_bytes)
    if request.headers.get("expect", "").lower() == "100-continue" and request.transport:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if not request.can_read_body:
        return b""
    chunks: list[bytes] = []
    size = 0
    while chunk := await request.content.readany():
        size += len(chunk)
        if size > limit_bytes:
            raise TooLarge(limit_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def need_from(request: web.BaseRequest, path: str, raw: bytes) -> Need | Refusal:
    """Return what the request needs, or a 400 that says what is wrong with its body."""
    if request.content_type == "multipart/form-data":
        return Need(task="other", model=form_model(raw))
    if not raw and (request.method != "POST" or task_of(path) == "other"):
        return Need(task="other")
    try:
        return need_of(path, parse_object(raw), len(raw))
    except BadBody as error:
        return Refusal(status=400, code="invalid_body", message=str(error))
