"""Errors as whole answers in bytes, in the shape of the API that was called."""

import json
import math
from email.utils import formatdate
from http import HTTPStatus

from gpuserve.router.apierrors import api_of, error_body
from gpuserve.router.headers import SERVER
from gpuserve.routing.choose import Refusal


def refusal_bytes(
    path: str, refusal: Refusal, request_id: bytes, told: bytes, *, closing: bool
) -> bytes:
    """Return the answer to a request to *path*; *told* are further header lines."""
    body = json.dumps(error_body(api_of(path), refusal)).encode()
    status = HTTPStatus(refusal.status)
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/json; charset=utf-8",
        f"Content-Length: {len(body)}",
        f"Date: {formatdate(usegmt=True)}",
        f"Server: {SERVER}",
        f"x-request-id: {request_id.decode('ascii')}",
    ]
    if refusal.retry_after_s is not None:
        lines.append(f"Retry-After: {max(1, math.ceil(refusal.retry_after_s))}")
    if closing:
        lines.append("Connection: close")
    return "\r\n".join(lines).encode() + b"\r\n" + told + b"\r\n" + body
