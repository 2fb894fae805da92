"""Publishes what the routers route by: routing.json, and a word to each worker."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from gpuserve import jsonvalues
from gpuserve.controller import policies
from gpuserve.controller.remembered import Memory
from gpuserve.controller.replica import Replica
from gpuserve.controller.routers import Routers
from gpuserve.controller.status import memory_status
from gpuserve.launch import keepalive_s, served_names
from gpuserve.lifecycle.states import Queued
from gpuserve.machine.files import replace_file
from gpuserve.plan import Plan
from gpuserve.routing.table import EXTERNAL, EngineWord, Figure, RoutingTable, table_of
from gpuserve.rundir import RunDir


class Routes:
    """The routing table of one instance. `publish` returns once every worker has it."""

    def __init__(
        self,
        run_dir: RunDir,
        routers: Routers,
        memory: Memory,
        say: Callable[[str], None],
    ) -> None:
        self._run_dir = run_dir
        self._routers = routers
        self._memory = memory
        self._say = say
        self._lock = asyncio.Lock()
        self._unreachable: dict[str, str] = {}
        self._generation = 0
        self._epoch = time.time()
        with suppress(OSError, ValueError):
            old = jsonvalues.loads(RoutingTable, run_dir.routing.read_bytes())
            self._generation = old.generation
            # The clock may have been set back since.
            self._epoch = max(self._epoch, old.epoch + 0.001)

    def reach(self, unreachable: Mapping[str, str]) -> bool:
        """Take which servers elsewhere cannot be reached, and why; return whether that is news."""
        before, self._unreachable = self._unreachable, dict(unreachable)
        return before != self._unreachable

    async def publish(self, plan: Plan, replicas: Mapping[str, Replica], *, stopping: bool) -> None:
        """Write routing.json and tell the workers; a full disk is said, not fatal."""
        async with self._lock:
            self._generation += 1
            table = table_of(
                plan.profile,
                instance=str(self._run_dir.path),
                generation=self._generation,
                launches=plan.launches,
                states={
                    name: self._word(replica, stopping=stopping)
                    for name, replica in replicas.items()
                }
                | {name: _elsewhere(why) for name, why in self._unreachable.items()},
                epoch=self._epoch,
            )
            text = jsonvalues.dumps(table)
            try:
                replace_file(self._run_dir.routing, text)
            except OSError as error:
                self._say(f"cannot write {self._run_dir.routing}: {error.strerror}")
            await self._routers.reload(text)

    def _word(self, replica: Replica, *, stopping: bool) -> EngineWord:
        state = replica.state
        last_start_s = self._memory.of(replica.name).last_start_s
        return EngineWord(
            state=state.name,
            routable=state.routable and not stopping,
            reason="gpuserve is stopping" if stopping else _for_clients(replica),
            retry_after_s=policies.retry_after_s(state, replica.phase_s, last_start_s),
            # As it runs: names that the profile got since are put into bodies.
            served_names=served_names(replica.launch.argv),
            keepalive_s=keepalive_s(replica.launch.env),
            figures=tuple(
                Figure(kind=kind, name=name, value=value)
                for kind, figures in memory_status(replica).items()
                for name, value in figures.items()
            ),
        )


def _for_clients(replica: Replica) -> str | None:
    """Return the reason without who else holds the memory that is waited for (gate.py)."""
    if isinstance(replica.state, Queued) and replica.reason is not None:
        return replica.reason.partition("; ")[0]
    return replica.reason


def _elsewhere(why: str) -> EngineWord:
    return EngineWord(
        state=EXTERNAL, routable=False, reason=why, retry_after_s=policies.RETRY_AFTER_S
    )
