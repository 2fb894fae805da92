"""Puts the engines of a profile onto GPUs: layout, charges, verdicts, for one reading of rooms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpuserve.memory.engine import Engine
from gpuserve.memory.grants import Charge, charges, shortfalls
from gpuserve.memory.layout import layouts
from gpuserve.memory.report import Grant, Shortfall, Verdict
from gpuserve.memory.rooms import Room
from gpuserve.memory.verdict import verdict_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One way to place every engine, with what is missing; nothing missing: it fits."""

    charges: tuple[Charge, ...]
    shortfalls: tuple[Shortfall, ...]

    @property
    def missing_bytes(self) -> int:
        """The sum of all shortfalls."""
        return sum(short.short_bytes for short in self.shortfalls)


def place(engines: Sequence[Engine], rooms: Mapping[int, Room]) -> Placement:
    """Return the first layout that fits, or else the one that misses least.

    The result for each engine does not depend on the order of *engines*.
    """
    tried = []
    for layout in layouts(engines, rooms):
        made = charges(engines, layout, rooms)
        placement = Placement(charges=made, shortfalls=shortfalls(made, rooms))
        if not placement.shortfalls:
            return placement
        tried.append(placement)
    return min(tried, key=lambda placement: placement.missing_bytes)


def grants(placement: Placement, rooms: Mapping[int, Room]) -> tuple[Grant, ...]:
    """Return the grants of *placement*, each with its verdict on the hardware of *rooms*."""
    short = {shortfall.model for shortfall in placement.shortfalls}
    # Those that do not fit will not be there.
    held = [c for c in placement.charges if c.engine.spec.name not in short]
    made = []
    for charge in placement.charges:
        verdict: Verdict = "does_not_fit"
        if charge.gpus and charge.engine.spec.name not in short:
            verdict = verdict_of(charge, held, rooms)
        made.append(_grant(charge, verdict))
    return tuple(made)


def _grant(charge: Charge, verdict: Verdict) -> Grant:
    engine = charge.engine
    return Grant(
        model=engine.spec.name,
        gpus=charge.gpus,
        verdict=verdict,
        gpu_memory_utilization=charge.fraction,
        kv_cache_space_gib=None,
        max_model_len=engine.max_model_len,
        max_num_seqs=engine.max_num_seqs,
        max_num_batched_tokens=engine.max_num_batched_tokens,
        budget_bytes=charge.budget_bytes,
        reserved_bytes=charge.reserved_bytes,
        footprint=engine.footprint(charge.pool_bytes),
    )
