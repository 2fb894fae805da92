"""What is refused before it is read whole: one wording for both sides of the router.

The connection ends with each of these, because what follows on it cannot be told from the rest of
the request.
"""

from gpuserve.routing.choose import Refusal
from gpuserve.units import KIB, mib

# What nginx takes (large_client_header_buffers); half of what vLLM's server does (h11's
# max_incomplete_event_size in uvicorn).
HEAD_BYTES = 32 * KIB
# How long a client whose request was refused may go on sending it, so that it gets to reading the
# answer.
LINGER_S = 2.0
# Bodies come and go with prompts, which are short.
_FULL_RETRY_S = 1.0


class TurnedAway(Exception):  # it is an answer, for the client
    """The request is answered with `refusal`, and the connection closed."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def no_request(why: str) -> Refusal:
    """Return the refusal of bytes that are no HTTP request."""
    return Refusal(status=400, code="bad_request", message=f"this is no HTTP request: {why}")


def head_too_large() -> Refusal:
    """Return the refusal of a head with too many bytes."""
    message = f"the head of the request is larger than {HEAD_BYTES // KIB} KiB"
    return Refusal(status=431, code="head_too_large", message=message)


def head_late(limit_s: float) -> Refusal:
    """Return the refusal of a head that did not come in time."""
    message = f"the head of the request did not come within {limit_s:g} s"
    return Refusal(status=408, code="request_timeout", message=message)


def body_late(limit_s: float) -> Refusal:
    """Return the refusal of a body that did not come in time."""
    message = f"the body of the request did not come within {limit_s:g} s"
    return Refusal(status=408, code="request_timeout", message=message)


def body_too_large(limit_bytes: int) -> Refusal:
    """Return the refusal of a body above [limits] max_body_bytes."""
    message = f"the body is larger than {mib(limit_bytes)}"
    return Refusal(status=413, code="request_too_large", message=message)


def bodies_full(limit_bytes: int) -> Refusal:
    """Return the refusal of a body for which there is no room now."""
    message = f"request bodies of {mib(limit_bytes)} are held already; try again"
    return Refusal(status=429, code="too_many_bodies", message=message, retry_after_s=_FULL_RETRY_S)


def unexpected(expectation: str) -> Refusal:
    """Return the refusal of an Expect other than 100-continue."""
    message = f"Expect: {expectation[:60]!a} is not known here, only 100-continue"
    return Refusal(status=417, code="expectation_failed", message=message)


def no_tunnel() -> Refusal:
    """Return the refusal of CONNECT."""
    message = "there are no tunnels here: CONNECT is not served"
    return Refusal(status=405, code="method_not_allowed", message=message)


class Bodies:
    """The bytes of request bodies that one worker holds; both of its sides count here."""

    __slots__ = ("held_bytes",)

    def __init__(self) -> None:
        self.held_bytes = 0
