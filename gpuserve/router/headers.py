"""Which headers pass, which stay, and which are ours."""

import re
import uuid
from collections.abc import Iterable, Mapping

from multidict import CIMultiDict

from gpuserve.routing.choose import Choice, Refusal

# RFC 9110, section 7.6.1, and Proxy-Connection, which never was one but is sent.
_HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
# The server has undone these or does them itself.
_REQUEST_OWN = frozenset(("host", "content-length", "content-encoding", "expect", "x-request-id"))
_RESPONSE_OWN = frozenset(("x-request-id",))
# The last are for `cors` to say.
_OURS = ("x-gpuserve-", "access-control-allow-", "access-control-expose-")
# Who answers where no engine does.
SERVER = "gpuserve"
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_REASON_CHARS = 300


def request_id(headers: Mapping[str, str]) -> str:
    """Return the client's own request id where it is printable, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def towards_upstream(headers: "CIMultiDict[str] | Mapping[str, str]") -> CIMultiDict[str]:
    """Return what of a client's *headers* goes to the upstream; Authorization does."""
    return _passing(headers, _REQUEST_OWN)


def towards_client(headers: "CIMultiDict[str] | Mapping[str, str]") -> CIMultiDict[str]:
    """Return what of an upstream's *headers* goes to the client."""
    return _passing(headers, _RESPONSE_OWN)


def routed(choice: Choice) -> dict[str, str]:
    """Return the headers that say who answers and why; printable ASCII only."""
    told = {
        "x-gpuserve-model": printable(choice.model),
        "x-gpuserve-route": printable(choice.route),
        "x-gpuserve-reason": printable(choice.reason),
    }
    if choice.fallback is not None:
        told["x-gpuserve-fallback"] = printable(choice.fallback)
    if choice.edits:
        told["x-gpuserve-max-tokens"] = str(min(number for _, number in choice.edits))
    return told


def refused(refusal: Refusal) -> dict[str, str]:
    """Return the headers that say what a refused request would have been answered by."""
    told = {"model": refusal.model, "route": refusal.route, "reason": refusal.reason}
    return {f"x-gpuserve-{key}": printable(text) for key, text in told.items() if text}


def as_lines(told: Mapping[str, str]) -> bytes:
    """Return *told*, which is printable, as lines of a head, each with its CRLF."""
    return "".join(f"{name}: {value}\r\n" for name, value in told.items()).encode("ascii")


def printable(text: str) -> str:
    """Return *text* fit for a header's value: ASCII, no control characters, not too long."""
    if not (text.isascii() and text.isprintable()):
        text = _UNPRINTABLE.sub("?", text)
    return text[:_REASON_CHARS].strip()


def _passing(
    headers: "CIMultiDict[str] | Mapping[str, str]", own: frozenset[str]
) -> CIMultiDict[str]:
    named = _named_by_connection(headers.get("connection", ""))
    passing: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        lowered = name.lower()
        if lowered in _HOP_BY_HOP or lowered in own or lowered in named:
            continue
        if not lowered.startswith(_OURS):
            passing.add(name, value)
    return passing


def _named_by_connection(value: str) -> Iterable[str]:
    return {name.strip().lower() for name in value.split(",")} if value else ()
