"""What a verdict means, in one place.

does_not_fit: fails at the median. not_now: fits the card, but others hold memory. risky: fails
at the 95th percentile of the error. tight: at that percentile, less than one full-length
request to spare beyond the promise. fits: otherwise.
"""

from collections.abc import Iterable, Mapping, Sequence

from gpuserve.memory.grants import Charge
from gpuserve.memory.report import Verdict
from gpuserve.memory.rooms import Room

# From harmless to fatal.
_ORDER: tuple[Verdict, ...] = ("fits", "tight", "risky", "not_now", "does_not_fit", "invalid")


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict of a whole: the worst of its parts, "fits" when there are none."""
    return max(verdicts, key=_ORDER.index, default="fits")


def verdict_of(charge: Charge, made: Sequence[Charge], rooms: Mapping[int, Room]) -> Verdict:
    """Return the verdict of an engine that fits at the median, beside its neighbours."""
    engine = charge.engine
    if engine.kv is None:
        # Nothing is known about it but its size, so nothing is proven.
        return "risky"
    spare = charge.pool_bytes - engine.promise_bytes
    if charge.elastic:
        slack = min(_slack_bytes(index, made, rooms) for index in charge.gpus)
        spare += slack
    else:
        spare -= engine.margin_bytes
    if spare < 0:
        return "risky"
    return "tight" if spare < engine.request_bytes else "fits"


def _slack_bytes(gpu: int, made: Sequence[Charge], rooms: Mapping[int, Room]) -> int:
    """What is left of *gpu* when every engine that may outgrow its charge does so."""
    here = [c for c in made if gpu in c.gpus]
    left = rooms[gpu].available_bytes
    for charge in here:
        left -= charge.budgets[charge.gpus.index(gpu)] + charge.engine.context
        if charge.elastic:
            left -= charge.engine.margin_bytes
    return left
