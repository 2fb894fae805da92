"""What is left of the GPUs, shared: every engine gets the same number of full-length requests."""

from collections.abc import Mapping, Sequence

from gpuserve.memory.engine import Engine
from gpuserve.memory.layout import Layout
from gpuserve.units import GIB

# Kept back on each GPU that is shared out: allocator fragments and the rounding of others
# would else be taken from an engine that is already running.
KEPT_BACK_BYTES = 3 * GIB // 10


def fair_pools(
    engines: Sequence[Engine],
    layout: Layout,
    left: Mapping[int, int],
    totals: Mapping[int, int],
) -> dict[str, int]:
    """Return the KV cache of each engine, in bytes; below its promise where it does not fit.

    `left` is what each GPU still has, `totals` what CUDA reports of it. Ranks have one fraction, so
    an engine takes more of its larger cards, and its cache is that of its smallest one. The
    engines of the fullest GPU stop growing first, the others go on until their own GPU is full.
    """
    pools: dict[str, int] = {}
    open_engines = {e.spec.name: e for e in engines if layout[e.spec.name] and e.request_bytes}
    while open_engines:
        requests, gpu = min(
            (_requests(index, open_engines, pools, engines, layout, left, totals), index)
            for index in {i for name in open_engines for i in layout[name]}
        )
        for name in sorted(open_engines):
            if gpu in layout[name]:
                engine = open_engines.pop(name)
                pools[name] = int(requests * engine.request_bytes)
    return pools


def _requests(
    gpu: int,
    open_engines: Mapping[str, Engine],
    pools: Mapping[str, int],
    engines: Sequence[Engine],
    layout: Layout,
    left: Mapping[int, int],
    totals: Mapping[int, int],
) -> float:
    """How many full-length requests each open engine of *gpu* can have; negative: none fits."""
    here = [e for e in engines if gpu in layout[e.spec.name]]
    more = {e.spec.name: totals[gpu] / min(totals[i] for i in layout[e.spec.name]) for e in here}
    taken = sum(
        (e.fixed_bytes + pools.get(e.spec.name, 0)) * more[e.spec.name] + e.context for e in here
    )
    per_request = sum(
        e.request_bytes * more[e.spec.name] for e in here if e.spec.name in open_engines
    )
    return (left[gpu] - KEPT_BACK_BYTES - taken) / per_request
