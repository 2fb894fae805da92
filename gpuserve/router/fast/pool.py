"""The kept connections to one upstream: last in, first out, one request at a time on each."""

import asyncio
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from gpuserve.router.answerhead import AnswerHeads
from gpuserve.router.fast.line import Line
from gpuserve.router.links import CONNECT_TIMEOUT_S, Tally, keep_s
from gpuserve.routing.table import Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where an upstream listens: a Unix socket, or a host and port; `host_line` names it.

    `keep_s` is for how long a connection may be idle.
    """

    socket: str | None
    host: str
    port: int
    host_line: bytes
    keep_s: float


class Caller(Protocol):
    """Who asked for a connection."""

    def dialled(self, line: Line) -> None:
        """Take the new connection."""

    def refused(self, why: str) -> None:
        """Learn that there is none."""


def address_of(upstream: Upstream) -> Address | None:
    """Return where *upstream* listens, None for what needs a client library (TLS, a base path)."""
    parts = urlsplit(upstream.url)
    plain = parts.scheme == "http" and parts.hostname and not (parts.username or parts.query)
    if not plain or parts.path.rstrip("/") not in ("", "/v1"):
        return None
    return Address(
        socket=upstream.socket,
        host=parts.hostname or "",
        port=parts.port or 80,
        host_line=b"Host: " + parts.netloc.encode("ascii", "replace") + b"\r\n",
        keep_s=keep_s(upstream),
    )


class Clock(Protocol):
    """The clock of the sweep."""

    now: int  # whole seconds


class Pool:
    """The connections to one upstream at one address."""

    def __init__(self, name: str, address: Address, tally: Tally, clock: Clock) -> None:
        self.name = name
        self.address = address
        self.tally = tally
        self.heads = AnswerHeads()
        self.retired = False
        self._clock = clock
        self._idle: list[Line] = []
        self._lines: set[Line] = set()

    @property
    def empty(self) -> bool:
        """Whether no connection is open."""
        return not self._lines

    def take(self) -> Line | None:
        """Return the connection that was used last, None when none is idle."""
        idle = self._idle
        while idle:
            line = idle.pop()
            if not line.transport.is_closing():
                self.tally.reused += 1
                return line
        return None

    def give_back(self, line: Line) -> None:
        """Keep *line*, whose answer came to its end, for the next request."""
        if self.retired:
            line.transport.close()
            return
        line.idle_since = self._clock.now
        self._idle.append(line)

    async def dial(self, caller: Caller) -> None:
        """Give *caller* a new connection, or the reason why there is none."""
        loop = asyncio.get_running_loop()
        address = self.address
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                if address.socket is not None:
                    _, line = await loop.create_unix_connection(self._line, address.socket)
                else:
                    _, line = await loop.create_connection(self._line, address.host, address.port)
        except OSError as error:
            caller.refused(str(error) or type(error).__name__)
            return
        self.tally.dialled += 1
        caller.dialled(line)

    def sweep(self, ahead_s: float) -> None:
        """Close what will have been idle for too long in *ahead_s*."""
        before = self._clock.now - (self.address.keep_s - ahead_s)
        for line in [x for x in self._lines if x.client is None and x.idle_since <= before]:
            line.transport.abort()

    def close(self) -> None:
        """Close what is idle now, and the rest as it becomes idle."""
        self.retired = True
        for line in [x for x in self._lines if x.client is None]:
            line.transport.abort()

    def opened(self, line: Line) -> None:
        """Note a connection."""
        line.idle_since = self._clock.now
        self._lines.add(line)

    def lost(self, line: Line) -> None:
        """Forget a connection that was closed."""
        self._lines.discard(line)
        if line in self._idle:
            self._idle.remove(line)

    def _line(self) -> Line:
        return Line(self)
