"""What the gate has somebody wait for is known to the routers while nothing else happens."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

from gpuserve.controller.audit import Audit
from gpuserve.controller.cards import Cards
from gpuserve.controller.gatekeeper import Gatekeeper
from gpuserve.controller.policies import policy_of
from gpuserve.controller.remembered import Memory
from gpuserve.controller.replica import Replica
from gpuserve.lifecycle.states import Queued, Starting, State
from gpuserve.machine.auditlog import AuditLog
from gpuserve.machine.voice import Voice
from gpuserve.rundir import RunDir
from tests.unit.controller.test_replica import Box
from tests.unit.test_plandiff import OLD


async def test_another_reason_to_wait_is_told_once(tmp_path: Path) -> None:
    box = Box(
        run_dir=RunDir(tmp_path),
        memory=Memory(tmp_path / "state.json", "here"),
        audit=Audit(AuditLog(tmp_path / "events.jsonl"), Voice(os.getpid())),
    )
    states: tuple[State, ...] = (Starting(0), Queued(0))
    starting, waiting = (
        Replica(
            replace(launch, gate=("gpu0",), weights=None), policy_of(launch.patience), box, state
        )
        for launch, state in zip(OLD.launches, states, strict=True)
    )
    waiting.reason = "requests were still in flight after 5 s"
    told: list[str | None] = []
    heard = asyncio.Event()

    def tell() -> None:
        told.append(waiting.reason)
        heard.set()

    replicas = {replica.name: replica for replica in (starting, waiting)}
    cards = Cards(0, set, box.audit)
    gatekeeper = Gatekeeper(replicas, lambda: tmp_path / "profile.toml", cards, tell)
    running = asyncio.create_task(gatekeeper.run())
    async with asyncio.timeout(30):
        await heard.wait()
    waits = f"waits for {starting.name} on gpu0"
    assert (told, waiting.reason) == ([waits], waits)
    running.cancel()
