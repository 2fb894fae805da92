"""Servers that gpuserve routes to but does not run: whether anybody listens there."""

import asyncio
import socket
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import urlsplit

from gpuserve.controller.threads import in_thread
from gpuserve.profile.spec import UpstreamSpec

LOOK_S = 5.0
CONNECT_S = 3.0


class Elsewhere:
    """Looks for them.

    Names are resolved in threads of their own, one question at a time for each name: a resolver
    that does not answer blocks for half a minute, and the threads that asyncio lends are few and
    needed for the keeper.
    """

    def __init__(self) -> None:
        self._questions: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def unreachable(self, upstreams: Iterable[UpstreamSpec]) -> dict[str, str]:
        """Return why a connection cannot be made, by upstream; {} if all can.

        Only a connection is made: which request a server of another make answers is its own
        matter.
        """
        specs = tuple(upstreams)
        reasons = await asyncio.gather(*(self._why(spec.url) for spec in specs))
        return {s.name: why for s, why in zip(specs, reasons, strict=True) if why is not None}

    async def _why(self, url: str) -> str | None:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        addresses: list[str] = []
        try:
            async with asyncio.timeout(CONNECT_S):
                addresses = await self._addresses(host, port)
                await _connect(addresses, port)
        except TimeoutError:
            if not addresses:
                return f'the name "{host}" of {url} is not resolved within {CONNECT_S:g} s'
            return f"{url} does not accept connections within {CONNECT_S:g} s"
        except OSError as error:
            return f"cannot connect to {url}: {error.strerror or error}"
        except UnicodeError as error:
            return f'"{host}" of {url} is no name of a host: {error}'
        return None

    async def _addresses(self, host: str, port: int) -> list[str]:
        """Return the addresses of *host*, one at least; raises OSError or UnicodeError.

        The question goes on where nobody waits for its answer any more.
        """
        question = self._questions.get((host, port))
        if question is None:
            question = in_thread(lambda: _resolve(host, port))
            self._questions[(host, port)] = question
        try:
            return await asyncio.shield(question)
        finally:
            if question.done():
                self._questions.pop((host, port), None)


def _resolve(host: str, port: int) -> list[str]:
    return [str(row[4][0]) for row in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


async def _connect(addresses: list[str], port: int) -> None:
    """Make a connection to one of *addresses* and close it; raises the last one's OSError."""
    for number, address in enumerate(addresses, 1):
        try:
            _, writer = await asyncio.open_connection(address, port)
        except OSError:
            if number == len(addresses):
                raise
            continue
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return
