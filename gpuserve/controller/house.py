"""What is looked after every few seconds: routers that gave up, strays, the watchdog."""

import asyncio
import os
import signal
from contextlib import suppress
from typing import Protocol

from gpuserve.controller import strays
from gpuserve.controller.audit import Audit
from gpuserve.controller.reload import Reloader
from gpuserve.controller.remembered import Memory
from gpuserve.controller.replica import Replica
from gpuserve.controller.routers import Routers
from gpuserve.keeperconf import engine_program, router_program
from gpuserve.lifecycle.audit import Why
from gpuserve.machine import families
from gpuserve.machine.families import Output
from gpuserve.machine.instance import Instance
from gpuserve.machine.keeper import Keeper, KeeperGone, KeeperRefused, KeeperStopping, KeptProcess
from gpuserve.machine.processes import Process, descendants, everything
from gpuserve.machine.systemd import Notifier
from gpuserve.plan import Plan
from gpuserve.rundir import RunDir
from gpuserve.shim.status import outputs

HUNG_LOOKS = 4
HOUSEKEEPING_S = 5.0


class Box(Protocol):
    """What housekeeping needs of the controller around it."""

    run_dir: RunDir
    instance: Instance
    keeper_pid: int
    plan: Plan
    memory: Memory
    audit: Audit
    replicas: dict[str, Replica]
    reloader: Reloader
    stopping: bool

    async def start_program(self, program: str) -> int:
        """Have the keeper start *program*; return its pid."""

    async def told_to_end(self) -> None:
        """Find out why the keeper is not our parent any more, and end."""


class House:
    """Keeps an instance in order, beside what its engines ask for."""

    def __init__(self, box: Box, keeper: Keeper, service: Notifier, routers: Routers) -> None:
        self._box = box
        self._keeper = keeper
        self._service = service
        self._routers = routers
        self._router_slots = range(box.plan.profile.server.workers + 1)
        # Workers by slot and pid that do not answer, and for how many looks.
        self._silent: dict[tuple[int, int], int] = {}
        # Processes that were once below a shim, also under a controller before this one.
        self._seen: set[tuple[int, int]] = families.read(box.run_dir)
        self._fault: str | None = None  # of the memory, as it was told last
        self._unplanned: set[str] = set()  # engines that an earlier controller should have ended

    async def run(self) -> None:
        """Look every HOUSEKEEPING_S until cancelled, or until the keeper is gone."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            if os.getppid() != self._box.keeper_pid:
                await self._box.told_to_end()
                return
            table = everything()
            try:
                kept = await asyncio.to_thread(self._keeper.processes)
            except (KeeperGone, KeeperStopping):
                continue
            self._service.ping_watchdog()
            self._box.audit.flush()
            self._tell_faults()
            self._remember_families(table)
            if not self._box.stopping:
                await self.start_routers(kept)
                await self._replace_hung_routers(kept)
                if not self._box.reloader.busy:
                    await self._end_unplanned(kept)
                await self._end_strays(table, kept)

    async def start_routers(self, kept: dict[str, KeptProcess]) -> None:
        """Start every router slot that does not run, of what the keeper says in *kept*."""
        for slot in self._router_slots:
            process = kept.get(router_program(slot))
            if process is not None and not process.runs:
                try:
                    await self._box.start_program(process.name)
                except (KeeperGone, KeeperStopping, KeeperRefused) as error:
                    self._box.audit.say(f"cannot start router slot {slot}: {error}")

    async def _replace_hung_routers(self, kept: dict[str, KeptProcess]) -> None:
        """Kill a worker that has not answered for HUNG_LOOKS looks; the keeper starts another.

        Also one that hangs before it has a socket to answer on.
        """
        answering = await self._routers.answering()
        silent = [
            (slot, process.pid)
            for slot in self._routers.slots
            if (process := kept.get(router_program(slot))) is not None
            and process.pid
            and slot not in answering
        ]
        self._silent = {worker: self._silent.get(worker, 0) + 1 for worker in silent}
        for (slot, pid), looks in self._silent.items():
            if looks >= HUNG_LOOKS:
                figures = {"slot": slot, "pid": pid, "silent_s": looks * HOUSEKEEPING_S}
                why = Why(text="it does not answer", cause="hung", figures=figures)
                self._box.audit.record("router_replaced", why)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    async def _end_unplanned(self, kept: dict[str, KeptProcess]) -> None:
        """End what a reload that was cut off has left: engines that the plan does not name."""
        planned = {engine_program(launch.name) for launch in self._box.plan.launches}
        for name, process in kept.items():
            model = name.removeprefix(engine_program(""))
            if model == name or name in planned or model in self._box.replicas:
                continue
            if model not in self._unplanned:
                self._unplanned.add(model)
                why = Why(text="the profile does not name it any more", cause="reload")
                self._box.audit.record("removed", why, model=model)
            with suppress(KeeperGone, KeeperStopping, KeeperRefused):
                if process.pid:
                    await asyncio.to_thread(self._keeper.stop, name)
                await asyncio.to_thread(self._keeper.forget, name)

    def _tell_faults(self) -> None:
        """Say once that what the operator wants cannot be written down, and when it can again."""
        fault = self._box.memory.fault
        if fault != self._fault and fault is not None:
            text = f"{fault}: it holds for this instance only"
            self._box.audit.record("state_lost", Why(text=text, cause="disk"))
        self._fault = fault

    async def end_strays(self, output: Output | None = None) -> int:
        """End the children of the keeper that it does not know, and who writes to *output*.

        The process table is read one process after another, so whoever changes parents meanwhile
        may be missed; the pipe of an engine's output misses nobody.
        """
        left = await strays.end_writers(output) if output is not None else 0
        table = everything()
        try:
            kept = await asyncio.to_thread(self._keeper.processes)
        except (KeeperGone, KeeperStopping):
            return left
        return left + await self._end_strays(table, kept)

    async def _end_strays(self, table: dict[int, Process], kept: dict[str, KeptProcess]) -> int:
        """End what *table*, read before *kept* was asked for, has and nobody knows."""
        known = {process.pid for process in kept.values()} | set(self._box.instance.children)
        seen = self.family() if self._box.keeper_pid == 1 else None
        found = strays.find(self._box.keeper_pid, known, table, seen)
        if found:
            why = Why(
                text="a killed shim left them behind",
                cause="strays",
                figures={"processes": len(found), "pids": " ".join(str(p.pid) for p in found)},
            )
            self._box.audit.record("strays_ended", why)
            await strays.end(found)
        return len(found)

    def _remember_families(self, table: dict[int, Process]) -> None:
        """Note what is below the shims now, for the time when a shim is gone.

        Also on disk, for an `up` after everything was killed at once.
        """
        shims = [replica.shim_pid for replica in self._box.replicas.values() if replica.shim_pid]
        below = {(p.pid, p.start_ticks) for pid in shims for p in descendants(pid, table)}
        still = {(p.pid, p.start_ticks) for p in table.values()}
        before, self._seen = self._seen, (self._seen | below) & still
        if self._seen != before:
            with suppress(OSError):
                families.write(self._box.run_dir, self._seen)

    def family(self) -> set[tuple[int, int]]:
        """Return what belongs to the engines: what was seen, and what came since."""
        return self._seen | families.writers(outputs(self._box.run_dir))
