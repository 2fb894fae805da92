"""Replaces the routers one after the other, without a connection refused or a stream cut.

A spare takes connections before the old worker stops taking them; the old one ends with its last
stream, and the keeper starts it anew, from the version that is installed by then.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from gpuserve.controller.audit import Audit
from gpuserve.controller.routers import Routers
from gpuserve.keeperconf import router_program
from gpuserve.lifecycle.audit import Why

LOOK_S = 0.1
# A router imports and binds its socket within two seconds; more on a box that is starved.
READY_S = 30.0


class Box(Protocol):
    """What is needed of the controller."""

    audit: Audit

    async def start_program(self, program: str) -> int:
        """Have the keeper start a program; return its pid."""

    async def find_program(self, program: str) -> int:
        """Return the pid of a program as the keeper has it, 0 if it does not run."""

    async def stop_program(self, program: str) -> None:
        """Ask a program to end, for good."""


async def replace_routers(box: Box, routers: Routers, workers: int) -> None:
    """Replace every worker; takes as long as the longest stream. Raises what the keeper raises."""
    for slot in range(1, workers + 1):
        spare = slot + workers
        old, second = router_program(slot), router_program(spare)
        before = await box.find_program(old)
        await box.start_program(second)
        if not await _within(READY_S, lambda: routers.answers(spare)):  # noqa: B023 - awaited here
            why = Why(text="its spare does not answer: the old one stays", figures={"slot": slot})
            box.audit.record("router_kept", why)
            await box.stop_program(second)
            continue
        await routers.drain(slot)
        after = await _other_than(before, box, old)
        await _within(READY_S, lambda: routers.answers(slot))  # noqa: B023
        stood_in = await box.find_program(second)
        await routers.drain(spare)
        await _other_than(stood_in, box, second)
        await box.stop_program(second)
        figures = {"slot": slot, "pid": before, "new_pid": after}
        box.audit.record("router_replaced", Why(text="as asked", cause="operator", figures=figures))


async def _other_than(pid: int, box: Box, program: str) -> int:
    """Wait until *program* has another pid than *pid* and return it; streams may take long."""
    while True:
        now = await box.find_program(program)
        if now not in (0, pid):
            return now
        await asyncio.sleep(LOOK_S)


async def _within(limit_s: float, holds: Callable[[], Awaitable[bool]]) -> bool:
    try:
        async with asyncio.timeout(limit_s):
            while not await holds():
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        return False
    return True
