"""The public endpoint with its fast path: what the connections of one worker share."""

import asyncio
import itertools
import logging
import os
from collections.abc import Iterator
from contextlib import suppress

from aiohttp import web

from gpuserve.router.counts import Counts
from gpuserve.router.fast.client import Client
from gpuserve.router.fast.outbox import Outbox
from gpuserve.router.fast.ways import Ways
from gpuserve.router.head import Template
from gpuserve.router.limits import Bodies
from gpuserve.router.links import Links
from gpuserve.router.server import PublicServer
from gpuserve.router.tablefile import TableFile

_SWEEP_S = 1.0

_log = logging.getLogger("gpuserve.router")


class FastServer:
    """Makes the protocol of each new connection; *slow* serves what is not carried by bytes."""

    def __init__(self, tables: TableFile, links: Links, bodies: Bodies, slow: PublicServer) -> None:
        self.counts = Counts()
        self.outbox = Outbox(asyncio.get_running_loop().call_soon, self.counts.added_s)
        self.links = links
        self.bodies = bodies
        self.draining = False
        self.now = 0
        self.tables = tables
        self._slow = slow
        self.template: Template | None = None
        self._ways = Ways(tables, links, self.counts, self)
        self.decide = self._ways.decide
        self._clients: set[Client] = set()
        self._empty = asyncio.Event()
        self._told_at: dict[str, int] = {}
        self.id_line = _id_lines().__next__

    def __call__(self) -> Client:
        """Return the protocol of one new connection."""
        return Client(self)

    def slow_side(self) -> web.RequestHandler:
        """Return aiohttp's protocol for a connection that is lent to it."""
        return self._slow()

    def say_died(self, name: str, why: str) -> None:
        """Log that an upstream ended before it answered; once a second will do."""
        if self._told_at.get(name) != self.now:
            self._told_at[name] = self.now
            _log.warning("%s ended before it answered (%s)", name, why)

    def opened(self, client: Client) -> None:
        """Note a connection."""
        self._clients.add(client)

    def lost(self, client: Client) -> None:
        """Forget a connection."""
        self._clients.discard(client)
        if self.draining and not self._clients:
            self._empty.set()

    async def sweep_forever(self) -> None:
        """Once a second, end what took too long and close connections that nobody uses."""
        while True:
            self.now += 1
            for client in [c for c in self._clients if 0 < c.deadline <= self.now]:
                client.sweep()
            self._ways.sweep(_SWEEP_S)
            await asyncio.sleep(_SWEEP_S)

    async def drain(self) -> None:
        """Close what is idle and return once every other connection has ended."""
        self.draining = True
        for client in list(self._clients):
            client.drain()
        if self._clients:
            await self._empty.wait()

    async def cut(self, timeout_s: float) -> None:
        """Close every connection."""
        for client in list(self._clients):
            client.abort()
        if self._clients:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), timeout_s)
        self._ways.close()


def _id_lines() -> Iterator[bytes]:
    """Yield headers with request ids of 32 hexadecimal digits; they are unique, not secret."""
    prefix = b"x-request-id: " + os.urandom(10).hex().encode()
    last = [b"%03x" % number for number in range(1 << 12)]
    for number in itertools.count():
        begin = b"%b%09x" % (prefix, number)
        for digits in last:
            yield begin + digits
