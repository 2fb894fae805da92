"""What browsers are told about pages that call the endpoint (https://fetch.spec.whatwg.org).

Nothing is allowed unless `[server] allowed_origins` says so: any page that somebody visits could
use the models of the machine in front of them otherwise. What engines say about it is dropped,
because they allow everybody.
"""

from collections.abc import Sequence

_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
# Browsers keep a permission for this long; as Starlette's CORSMiddleware, which engines use.
_MAX_AGE_S = 600
_HEADERS_CHARS = 1000


def for_page(origin: str | None, allowed: Sequence[str]) -> dict[str, str]:
    """Return the headers of an answer to a page of *origin*, None for what is no page."""
    if not allowed:
        return {}
    if "*" in allowed:
        return {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "*"}
    told = {"Vary": "Origin"}
    if origin is not None and origin in allowed:
        told |= {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": "*"}
    return told


def permits(origin: str, allowed: Sequence[str]) -> bool:
    """Whether pages of *origin* may call."""
    return "*" in allowed or origin in allowed


def preflight(asked_headers: str) -> dict[str, str]:
    """Return the further headers of the answer to a permitted preflight.

    *asked_headers* are the names that the page wants to send; "*" would not cover Authorization.
    """
    told = {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Max-Age": str(_MAX_AGE_S),
    }
    if asked_headers and asked_headers.isprintable() and asked_headers.isascii():
        told["Access-Control-Allow-Headers"] = asked_headers[:_HEADERS_CHARS]
    return told
