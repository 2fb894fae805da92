"""Errors in the shape of the API that was called, whole or as the last event of a stream.

OpenAI's is `{"error": {"message", "type", "param", "code"}}`, and an `error` event of its own in
a stream of Responses; Anthropic's Messages have `{"type": "error", "error": {"type", "message"}}`.
"""

import json
import math
from typing import Any, Literal

from aiohttp import web

from gpuserve.routing.choose import Refusal

Api = Literal["openai", "responses", "anthropic"]

# https://docs.anthropic.com/en/api/errors
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def api_of(path: str) -> Api:
    """Return whose shape the errors of *path* have."""
    if path.startswith("/v1/messages"):
        return "anthropic"
    return "responses" if path.startswith("/v1/responses") else "openai"


def error_body(api: Api, refusal: Refusal) -> dict[str, Any]:
    """Return the JSON body of an error."""
    if api == "anthropic":
        kind = _ANTHROPIC_TYPES.get(refusal.status, "api_error")
        if refusal.status == 405:
            kind = "invalid_request_error"
        return {"type": "error", "error": {"type": kind, "message": refusal.message}}
    return {
        "error": {
            "message": refusal.message,
            "type": "invalid_request_error" if refusal.status < 500 else "server_error",
            "param": refusal.param,
            "code": refusal.code,
        }
    }


def error_event(api: Api, refusal: Refusal) -> bytes:
    """Return the server-sent event that ends a stream which cannot go on."""
    body = error_body(api, refusal)
    if api == "anthropic":
        return b"event: error\ndata: " + json.dumps(body).encode() + b"\n\n"
    if api == "responses":
        event = {
            "type": "error",
            "code": refusal.code,
            "message": refusal.message,
            "param": refusal.param,
            # Events are not parsed here, so the number of the last one is not known.
            "sequence_number": 0,
        }
        return b"event: error\ndata: " + json.dumps(event).encode() + b"\n\n"
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def error_response(api: Api, refusal: Refusal, request_id: str) -> web.Response:
    """Return the whole answer, with Retry-After (whole seconds, at least 1) where there is one."""
    headers = {"x-request-id": request_id}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(refusal.retry_after_s)))
    return web.json_response(error_body(api, refusal), status=refusal.status, headers=headers)
