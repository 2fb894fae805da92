"""The router slots as the controller sees them: told of changes, asked what is in flight."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp

from gpuserve.rundir import RunDir

# A worker answers within milliseconds; one that does not must not hold up a decision.
TIMEOUT_S = 1.0
# Each engine's prober asks for what goes on with all of them: they share an answer.
RECENT_S = 1.0


@dataclass(frozen=True, slots=True)
class Tally:
    """What the routers have going with one upstream."""

    in_flight: int
    received_bytes: int


class Routers:
    """The workers' control sockets."""

    def __init__(self, run_dir: RunDir, slots: Iterable[int]) -> None:
        self._run_dir = run_dir
        self.slots = tuple(slots)
        self._recent: tuple[float, dict[str, Tally] | None] | None = None

    async def reload(self, table: bytes) -> None:
        """Give every worker the new table. One that misses it sees routing.json by itself."""
        await self._call_all("POST", "/reload", table)

    async def answering(self) -> set[int]:
        """Return the slots whose worker takes connections and answers."""
        answers = await self._call_all("GET", "/upstreams")
        return {slot for slot, answer in answers.items() if answer and "upstreams" in answer}

    async def answers(self, slot: int) -> bool:
        """Return whether the worker in *slot* takes connections and answers."""
        return "upstreams" in (await self._call(slot, "GET", "/upstreams") or {})

    async def drain(self, slot: int) -> None:
        """Have the worker in *slot* take no more connections and end with its last stream."""
        await self._call(slot, "POST", "/drain")

    async def tallies(self) -> dict[str, Tally] | None:
        """Return what goes on by upstream, over all workers; None if a worker does not answer.

        A worker that is gone has nothing in flight; one that is silent is busy, not idle.
        """
        total: dict[str, Tally] = {}
        for answer in (await self._call_all("GET", "/upstreams")).values():
            if answer is None:
                return None
            for name, row in answer.get("upstreams", {}).items():
                before = total.get(name, Tally(0, 0))
                total[name] = Tally(
                    before.in_flight + int(row.get("in_flight", 0)),
                    before.received_bytes + int(row.get("bytes", 0)),
                )
        return total

    async def recent_tallies(self) -> dict[str, Tally] | None:
        """Return `tallies` of now or of up to RECENT_S ago: good for progress, not for an end."""
        now_s = time.monotonic()
        if self._recent is None or now_s - self._recent[0] >= RECENT_S:
            self._recent = (now_s, await self.tallies())
        return self._recent[1]

    async def _call_all(
        self, method: str, path: str, body: bytes | None = None
    ) -> dict[int, dict[str, Any] | None]:
        """Return each slot's answer, as `_call` gives it."""
        calls = (self._call(slot, method, path, body) for slot in self.slots)
        return dict(zip(self.slots, await asyncio.gather(*calls), strict=True))

    async def _call(
        self, slot: int, method: str, path: str, body: bytes | None = None
    ) -> dict[str, Any] | None:
        """Return the worker's answer, {} if there is no such worker, None if it is silent."""
        socket = self._run_dir.router_socket(slot)
        if not socket.exists():
            return {}  # spares do not run as a rule; that costs less than a failed connection
        connector = aiohttp.UnixConnector(str(socket), force_close=True)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.request(method, f"http://router{path}", data=body) as response,
            ):
                answer = await response.json()
                return answer if isinstance(answer, dict) else {}
        except TimeoutError:
            return None
        except (aiohttp.ClientError, OSError, ValueError):
            return {}
