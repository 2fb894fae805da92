"""What the pieces of the fast path know of each other."""

from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from gpuserve.router.counts import Counts
from gpuserve.router.fast.outbox import Outbox
from gpuserve.router.fast.ways import Way
from gpuserve.router.head import Template
from gpuserve.router.limits import Bodies
from gpuserve.router.links import Links
from gpuserve.router.tablefile import TableFile
from gpuserve.routing.choose import Refusal

if TYPE_CHECKING:
    from gpuserve.router.fast.client import Client


class Shared(Protocol):
    """What the requests of one worker share."""

    counts: Counts
    links: Links
    bodies: Bodies
    tables: TableFile
    outbox: Outbox
    draining: bool

    def decide(self, path: str, data: bytes, start: int) -> Way | Refusal | None:
        """Return the way of a request whose body begins at *start*; None for the slow side."""

    def id_line(self) -> bytes:
        """Return a new request id, as a header without its CRLF."""

    def say_died(self, name: str, why: str) -> None:
        """Log that an upstream ended before it answered."""


class Carrier(Shared, Protocol):
    """What the connections of one worker share."""

    template: Template | None  # of the last head that was read
    now: int  # whole seconds

    def slow_side(self) -> web.RequestHandler:
        """Return aiohttp's protocol for a connection that is lent to it."""

    def opened(self, client: "Client") -> None:
        """Note a connection."""

    def lost(self, client: "Client") -> None:
        """Forget one."""


class Asker(Protocol):
    """Whose request it is: a client's connection."""

    def next_request(self) -> None:
        """Learn that the request is answered; `Exchange.closing` says whether it was the last."""

    def answer_cut(self) -> None:
        """Learn that the answer is not complete, and nothing can follow it."""

    def hand_over(self, data: bytes, size: int, length: int) -> None:
        """Have the slow side answer the request *data*, whose head is *size* bytes long."""
