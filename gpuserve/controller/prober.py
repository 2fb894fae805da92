"""Asks one engine how it is, again and again, and tells its replica what that means."""

import asyncio
import time
from dataclasses import replace
from typing import Protocol

from gpuserve.controller.replica import Replica
from gpuserve.controller.routers import Routers
from gpuserve.lifecycle.audit import Why
from gpuserve.lifecycle.liveness import Reading, Watch, observe
from gpuserve.lifecycle.states import ProbeMissed, ProbePassed, StallSeen, Starting, State
from gpuserve.machine.ports import listener
from gpuserve.machine.probe import Probe
from gpuserve.machine.processes import descendants, everything
from gpuserve.plan import Launch

STARTING_S = 0.5
READY_S = 2.5
MISSED_S = 0.5
MISSES = 2  # in a row, before a ready engine is taken out of the routes


class Box(Protocol):
    """What a prober needs to know of the controller around it."""

    stopping: bool


class Prober:
    """Probes one engine while its state asks for it."""

    def __init__(self, replica: Replica, routers: Routers, box: Box) -> None:
        self._replica = replica
        self._probe = probe_of(replica.launch)
        self._probed = replica.launch
        self._routers = routers
        self._box = box
        self._watch = _fresh()
        self._watched_epoch = -1
        self._misses = 0

    async def run(self) -> None:
        """Probe until the box is stopping."""
        try:
            while not self._box.stopping:
                if self._replica.state.probed:
                    await self._look()
                await asyncio.sleep(self._pause_s(self._replica.state))
        finally:
            await self._probe.close()

    async def _look(self) -> None:
        replica, epoch = self._replica, self._replica.epoch
        if replica.launch is not self._probed:
            await self._probe.close()
            self._probe, self._probed = probe_of(replica.launch), replica.launch
        starting = isinstance(replica.state, Starting)
        if starting and epoch != self._watched_epoch:
            self._watch, self._watched_epoch = _fresh(), epoch
        reading = await self._probe.read()
        if starting:
            await self._greet(reading, epoch)
            return
        reading = await self._with_traffic(reading)
        limit_s = replica.launch.patience.liveness_timeout_s
        self._watch, finding = observe(self._watch, reading, limit_s)
        self._misses = self._misses + 1 if finding == "missed" else 0
        if finding == "passed":
            replica.tell(ProbePassed(), epoch=epoch)
        elif finding == "missed" and self._misses >= MISSES:
            replica.tell(ProbeMissed(), epoch=epoch, why=_unhealthy(reading.health))
        elif finding == "stalled":
            replica.tell(StallSeen(), epoch=epoch, why=self._wedged(reading, limit_s))

    def _wedged(self, reading: Reading, limit_s: float) -> Why:
        figures = {
            "running": reading.running,
            "in_flight": reading.in_flight,
            "nothing_moved_s": round(reading.at_s - self._watch.moved_s, 1),
        }
        text = f"requests run and nothing moves (liveness_timeout_s, {limit_s:g} s)"
        return Why(text=text, cause="wedged", figures=figures)

    async def _greet(self, reading: Reading, epoch: int) -> None:
        """An engine that loads: only its own word that it is ready matters."""
        replica = self._replica
        if reading.health != "ok":
            return
        if replica.launch.port is not None and not await asyncio.to_thread(_is_ours, replica):
            replica.reason = f"another process answers on port {replica.launch.port}"
            return
        found = replica.status()
        if found is not None:
            replica.follow_engine(found.pid)
        replica.cache = await self._probe.cache_info()
        replica.tell(ProbePassed(), epoch=epoch)

    async def _with_traffic(self, reading: Reading) -> Reading:
        """Add what the routers have going; where they do not say, nothing has changed."""
        tallies = await self._routers.recent_tallies()
        if tallies is None:
            return replace(reading, received_bytes=self._watch.received_bytes)
        tally = tallies.get(self._replica.name)
        if tally is None:
            return reading
        return replace(reading, in_flight=tally.in_flight, received_bytes=tally.received_bytes)

    def _pause_s(self, state: State) -> float:
        if isinstance(state, Starting) or not state.probed:
            return STARTING_S
        limit_s = self._replica.launch.patience.liveness_timeout_s
        return MISSED_S if self._misses else min(READY_S, limit_s / 4)


def probe_of(launch: Launch) -> Probe:
    """Return a probe of the engine that *launch* starts."""
    return Probe(socket=launch.socket, port=launch.port)


def _fresh() -> Watch:
    now_s = time.monotonic()
    return Watch(moved_s=now_s, answered_s=now_s)


def _is_ours(replica: Replica) -> bool:
    """Whether who listens on the engine's port belongs to the engine."""
    found = listener(replica.launch.port or 0)
    if found is None:
        return True  # it cannot be told, or it has just gone
    return found.pid in {p.pid for p in descendants(replica.shim_pid, everything())}


def _unhealthy(health: str) -> Why:
    text = {
        "dead": "/health says that the engine is dead",
        "refused": "nothing listens any more",
    }.get(health, "does not answer")
    return Why(text=text, cause="health")
