"""The router slots as the controller sees them: told of changes, asked what is in flight."""

import asyncio
from collections.abc import Iterable

import aiohttp

from gpuserve.rundir import RunDir

# A worker answers within milliseconds; one that does not must not hold up a decision.
TIMEOUT_S = 1.0


class Routers:
    """The workers' control sockets. Workers that do not answer are left out, not waited for."""

    def __init__(self, run_dir: RunDir, slots: Iterable[int]) -> None:
        self._run_dir = run_dir
        self._slots = tuple(slots)

    async def reload(self, table: bytes) -> None:
        """Give every worker the new table. One that misses it sees routing.json by itself."""
        calls = (self._call(slot, "POST", "/reload", table) for slot in self._slots)
        await asyncio.gather(*calls)

    async def in_flight(self) -> dict[str, int]:
        """Return the requests in flight by upstream, where there are any, over all workers."""
        total: dict[str, int] = {}
        answers = await asyncio.gather(
            *(self._call(slot, "GET", "/upstreams") for slot in self._slots)
        )
        for answer in answers:
            rows = answer.get("upstreams", {}) if isinstance(answer, dict) else {}
            for name, row in rows.items():
                total[name] = total.get(name, 0) + int(row.get("in_flight", 0))
        return {name: count for name, count in total.items() if count}

    async def _call(self, slot: int, method: str, path: str, body: bytes | None = None) -> object:
        socket = self._run_dir.router_socket(slot)
        if not socket.exists():
            return None
        connector = aiohttp.UnixConnector(str(socket), force_close=True)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.request(method, f"http://router{path}", data=body) as response,
            ):
                return await response.json()
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return None
