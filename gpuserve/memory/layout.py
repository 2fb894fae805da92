"""Which GPUs an engine gets when the profile does not say.

Deterministic and independent of the order in the profile: the largest engine first, names
break ties. Two ways are tried, the emptiest cards first (room for everybody's cache) and the
fullest that still hold it (room for the largest), then all others; the first that fits
everything wins.
"""

from collections.abc import Iterable, Iterator, Mapping

from gpuserve.memory.engine import Engine
from gpuserve.memory.fraction import charged_bytes, fraction_up
from gpuserve.memory.rooms import Room
from gpuserve.memory.search import Layout, able, searched
from gpuserve.readings import Gpu

__all__ = ["Layout", "asked_bytes", "layouts", "rounded_bytes"]


def layouts(engines: Iterable[Engine], rooms: Mapping[int, Room]) -> Iterator[Layout]:
    """Yield ways to place *engines*, the best guess first; explicit `gpus` are respected.

    An engine that no card holds is placed anyway, on the emptiest cards, so that its shortfall
    has a place. Engines that need more GPUs than there are get none.
    """
    engines = sorted(engines, key=_order)
    yield _placed(engines, rooms, emptiest_first=True)
    yield _placed(engines, rooms, emptiest_first=False)
    if all(engine.spec.gpus is not None for engine in engines):
        return
    needs = {
        engine.spec.name: {
            index: rounded_bytes(engine, room.gpu) + engine.context for index, room in rooms.items()
        }
        for engine in engines
    }
    found = searched(engines, rooms, needs)
    if found is not None:
        yield found


def asked_bytes(engine: Engine, gpu: Gpu) -> int:
    """Return the budget on *gpu* that the profile asks for, or else the promise needs."""
    spec = engine.spec
    if spec.memory_bytes is not None:
        return max(0, spec.memory_bytes - engine.context)
    if spec.kv_cache_memory_bytes is not None:
        # vLLM takes exactly this for the cache, whatever the fraction says; the fraction only
        # decides its start check.
        budget = engine.fixed_bytes + spec.kv_cache_memory_bytes
        if spec.gpu_memory_utilization is not None:
            return max(budget, charged_bytes(gpu, spec.gpu_memory_utilization))
        return budget
    if spec.gpu_memory_utilization is not None:
        return charged_bytes(gpu, spec.gpu_memory_utilization)
    return engine.least_bytes


def rounded_bytes(engine: Engine, gpu: Gpu) -> int:
    """Return `asked_bytes` as vLLM takes it after the fraction was rounded."""
    asked = asked_bytes(engine, gpu)
    if engine.spec.gpu_memory_utilization is not None:
        return asked
    return charged_bytes(gpu, fraction_up(gpu, asked))


def _order(engine: Engine) -> tuple[bool, int, int, str]:
    spec = engine.spec
    size = max(engine.least_bytes, spec.memory_bytes or 0)
    if spec.gpu_memory_utilization is not None:
        # A share of a card that is not chosen yet: compare as if cards were of 1 TiB.
        size = max(size, int(spec.gpu_memory_utilization * (1 << 40)))
    return (spec.gpus is None, -engine.ranks, -size, spec.name)


def _placed(engines: list[Engine], rooms: Mapping[int, Room], *, emptiest_first: bool) -> Layout:
    left = {index: room.available_bytes for index, room in rooms.items()}
    layout: Layout = {}
    for engine in engines:
        gpus = engine.spec.gpus
        if gpus is None:
            gpus = _chosen(engine, rooms, left, emptiest_first=emptiest_first)
        layout[engine.spec.name] = gpus
        for index in gpus:
            left[index] -= rounded_bytes(engine, rooms[index].gpu) + engine.context
    return layout


def _chosen(
    engine: Engine, rooms: Mapping[int, Room], left: Mapping[int, int], *, emptiest_first: bool
) -> tuple[int, ...]:
    if engine.ranks > len(rooms):
        return ()
    rooms = able(engine, rooms)
    need = {
        index: rounded_bytes(engine, room.gpu) + engine.context for index, room in rooms.items()
    }
    holds = [index for index in rooms if left[index] >= need[index]]
    sign = -1 if emptiest_first else 1
    if len(holds) >= engine.ranks:
        best = sorted(holds, key=lambda index: (sign * left[index], index))
    else:
        best = sorted(rooms, key=lambda index: (-left[index], index))
    return tuple(sorted(best[: engine.ranks]))
