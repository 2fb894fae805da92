"""Carries out the gate: weights first, then one start per device once its memory has settled."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

from gpuserve.controller import policies
from gpuserve.controller.cards import Cards
from gpuserve.controller.replica import Replica
from gpuserve.controller.weights import fetch
from gpuserve.errors import GpuserveError
from gpuserve.lifecycle import gate
from gpuserve.lifecycle.audit import Why
from gpuserve.lifecycle.settling import Look, compare
from gpuserve.lifecycle.states import Queued
from gpuserve.machine.host import read_host

LOOK_AGAIN_S = 1.0


class Gatekeeper:
    """Looks at what is Queued whenever it is woken, and each second while anything is."""

    def __init__(
        self,
        replicas: Mapping[str, Replica],
        profile: Callable[[], Path],
        cards: Cards,
        tell: Callable[[], object],
    ) -> None:
        """*tell* is called when somebody waits for something else than before."""
        self._replicas = replicas
        self._tell = tell
        self._cards = cards
        self._profile = profile
        self._wake = asyncio.Event()
        self._looks: dict[str, Look] = {}
        self._fetches: dict[str, asyncio.Task[None]] = {}

    def wake(self) -> None:
        """Look again now."""
        self._wake.set()

    async def run(self) -> None:
        """Open the gate for one engine after another until cancelled."""
        try:
            while True:
                queued = [r for r in self._replicas.values() if isinstance(r.state, Queued)]
                self._end_fetches({replica.name for replica in queued})
                if queued:
                    await self._look(queued)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN_S if queued else None):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            for task in self._fetches.values():
                task.cancel()

    async def _look(self, queued: list[Replica]) -> None:
        for replica in queued:
            if not _has_weights(replica):
                self._start_fetch(replica)
        ready = sorted(filter(_has_weights, queued), key=lambda replica: replica.since_s)
        if not ready:
            return
        moving = {
            device: replica.name
            for replica in self._replicas.values()
            if replica.moves_memory
            for device in replica.launch.gate
        }
        waiters = [policies.waiter_of(replica.launch) for replica in ready]
        free = await self._free({device for waiter in waiters for device in waiter.devices})
        decision = gate.decide(waiters, moving, free)
        news = False
        for replica in ready:
            if replica.name in decision.opened:
                why = Why(cause="gate", figures=_measured(replica, free))
                replica.open_gate(why, {d: f.now_bytes for d, f in free.items() if f.now_bytes})
            elif isinstance(replica.state, Queued):
                news |= replica.explain(decision.reasons[replica.name])
        if news:
            self._tell()

    async def free_bytes(self, devices: Collection[str]) -> dict[str, int]:
        """Return what is free on the GPUs among *devices*, without those that cannot be read."""
        now = await self._cards.read()
        return {device: now[device].free_bytes for device in devices if device in now}

    async def _free(self, devices: set[str]) -> dict[str, gate.Free]:
        """Read free memory; a GPU's is compared with that of a look about a second ago."""
        now: dict[str, int] = {}
        if "cpu" in devices:
            now["cpu"] = (await asyncio.to_thread(read_host)).ram_available_bytes
        gpus = await self._cards.read() if devices - {"cpu"} else {}
        now |= {device: gpu.free_bytes for device, gpu in gpus.items()}
        at_s = time.monotonic()
        found = {}
        for device in devices:
            bytes_now = now.get(device)
            before = bytes_now  # a host is never still
            if device != "cpu" and bytes_now is not None:
                look = Look(at_s, bytes_now)
                self._looks[device], before = compare(self._looks.get(device), look)
            others = self._cards.others(gpus[device]) if device in gpus else ()
            found[device] = gate.Free(bytes_now, before, self._cards.fault, others)
        return found

    def _end_fetches(self, queued: set[str]) -> None:
        """Cancel the fetches of engines that are not to start any more."""
        for name, task in self._fetches.items():
            if name not in queued:
                task.cancel()

    def _start_fetch(self, replica: Replica) -> None:
        running = self._fetches.get(replica.name)
        if running is None or running.done():
            self._fetches[replica.name] = asyncio.create_task(self._fetch(replica))

    async def _fetch(self, replica: Replica) -> None:
        """Have the weights of *replica* here, or tell it that they cannot be had."""
        try:
            await self._fetch_now(replica)
        except (OSError, GpuserveError) as error:
            replica.miss_weights(f"cannot fetch: {error}", hopeless=False, epoch=replica.epoch)

    async def _fetch_now(self, replica: Replica) -> None:
        from gpuserve.machine.hub import weights_here

        epoch = replica.epoch
        repo, revision = replica.launch.weights or "", replica.launch.revision
        if not await asyncio.to_thread(weights_here, repo, revision):
            replica.explain(f"fetching the weights of {repo}")
            fetched = await fetch(self._profile(), replica.name, replica.note)
            if fetched.reason is not None:
                replica.miss_weights(fetched.reason, hopeless=fetched.hopeless, epoch=epoch)
                return
        replica.weights_here = True
        self.wake()


def _measured(replica: Replica, free: Mapping[str, gate.Free]) -> dict[str, int]:
    """What the gate found: what the start needs of each device, and what is free there."""
    found = {}
    for device, needs in policies.waiter_of(replica.launch).needs:
        found[f"{device}_needs_bytes"] = needs
        found[f"{device}_free_bytes"] = free[device].now_bytes or 0
    return found


def _has_weights(replica: Replica) -> bool:
    return replica.weights_here or replica.launch.weights is None
