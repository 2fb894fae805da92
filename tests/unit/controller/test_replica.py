"""One engine as the controller around it sees it."""

import asyncio
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from gpuserve.controller.audit import Audit
from gpuserve.controller.policies import policy_of
from gpuserve.controller.remembered import Memory, Remembered
from gpuserve.controller.replica import Replica
from gpuserve.controller.status import model_status
from gpuserve.lifecycle.audit import Why
from gpuserve.lifecycle.states import ProbePassed, Starting
from gpuserve.machine.auditlog import AuditLog
from gpuserve.machine.families import Output
from gpuserve.machine.voice import Voice
from gpuserve.rundir import RunDir
from tests.unit.test_plandiff import OLD


@dataclass
class Box:
    """A controller whose routers hear of a new state when `told` is set."""

    run_dir: RunDir
    memory: Memory
    audit: Audit
    keeper_pid: int = 0
    cgroup: Path | None = None
    stopping: bool = False
    telling: asyncio.Event = field(default_factory=asyncio.Event)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    async def start_program(self, program: str) -> int:
        return 0

    async def find_program(self, program: str) -> int:
        return 0

    async def state_changed(self, replica: Replica) -> None:
        self.telling.set()
        await self.told.wait()

    async def end_strays(self, output: Output | None = None) -> int:
        return 0

    async def free_bytes(self, devices: Collection[str]) -> dict[str, int]:
        return {}

    def starting_beside(self, replica: Replica) -> str | None:
        return None


async def test_an_engine_is_ready_for_people_once_the_routers_know_it(tmp_path: Path) -> None:
    (launch, *_) = OLD.launches
    box = Box(
        run_dir=RunDir(tmp_path),
        memory=Memory(tmp_path / "state.json", "here"),
        audit=Audit(AuditLog(tmp_path / "events.jsonl"), Voice(os.getpid())),
    )
    replica = Replica(launch, policy_of(launch.patience), box, Starting(0))
    taking = asyncio.create_task(replica.begin(ProbePassed(), Why(cause="probe")))
    async with asyncio.timeout(30):
        await box.telling.wait()
        said = model_status(replica, Remembered())
        assert (said["state"], said["ready"]) == ("Ready", False)
        box.told.set()
        await taking
    assert model_status(replica, Remembered())["ready"] is True
