"""Whether an engine holds, or found, what was planned for it."""

from collections.abc import Iterator, Mapping

from gpuserve.lifecycle.audit import Why
from gpuserve.memory.report import Footprint
from gpuserve.units import GIB, gib

# For plans that state no margin. A choice, not a measurement: less changes nobody's plans.
TOLERANCE = 0.05


def drift(predicted: Mapping[str, float], actual: Mapping[str, float]) -> Why | None:
    """Return what differs to the engine's harm by more than the plan's margin, or None.

    Both have the keys of the `memory` in `status --json`; what one lacks is not compared. The
    margin is `margin_bytes` of the prediction, the 95th percentile of its error.
    """
    margin_bytes = predicted.get("margin_bytes", 0)
    told = []
    figures: dict[str, float | int | str] = {}
    for key, harm in (("kv_cache_tokens", -1), ("weights_bytes", 1), ("cuda_graph_bytes", 1)):
        planned, found = predicted.get(key), actual.get(key)
        if not planned or found is None:
            continue
        off = (found - planned) / planned
        size_bytes = predicted.get("kv_cache_bytes", 0) if harm < 0 else planned
        allowed = margin_bytes / size_bytes if margin_bytes and size_bytes else TOLERANCE
        if off * harm > allowed:
            told.append(f"{_words(key, found)}, {_words(key, planned)} planned ({off:+.0%})")
            if harm < 0:
                told.extend(_where_the_cache_went(predicted, actual))
            figures |= {key: round(found), f"planned_{key}": round(planned)}
    freed_bytes = round(freed_beside(predicted, actual))
    if freed_bytes > 0:
        told.append(
            f"{gib(freed_bytes)} that others held came free while it measured and became part of "
            "its cache: it holds as much more than planned until it is restarted"
        )
        figures |= {"freed_beside_bytes": freed_bytes}
    return Why(text="; ".join(told), cause="memory", figures=figures) if told else None


def _where_the_cache_went(
    predicted: Mapping[str, float], actual: Mapping[str, float]
) -> Iterator[str]:
    """Yield what is known to make a cache smaller than planned."""
    first = round(predicted.get("first_start_bytes", 0))
    if first:
        yield f"a start without a compile cache has {gib(first)} less"
    planned, found = predicted.get("non_torch_bytes"), actual.get("non_torch_bytes")
    if planned is not None and found is not None and found > 2 * planned:
        yield (
            f"{gib(round(found - planned))} more than planned is charged to libraries, where what "
            "others on the GPU took while it measured is counted too"
        )


def freed_beside(predicted: Mapping[str, float], actual: Mapping[str, float]) -> float:
    """Return the bytes of others that came free while an engine measured, 0 within the margin.

    What vLLM prints as non-torch memory is all that was used when its profiling ended, less what
    was used before it began, less PyTorch's own (utils/mem_utils.py, memory_profiling): what
    others free meanwhile makes it smaller, and the cache larger, which is the rest of the budget.
    """
    planned, found = predicted.get("non_torch_bytes"), actual.get("non_torch_bytes")
    if planned is None or found is None or found >= 0:
        return 0
    freed = planned - found
    return freed if freed > predicted.get("margin_bytes", 0) else 0


def missing_cache_bytes(planned: Footprint | None, allocated: Mapping[str, float]) -> int:
    """Return by how much the cache that an engine's log names is below the plan and its margin.

    0 where the log names none, and where the model's layout is not among the known ones: then it
    is the plan that is in doubt.
    """
    found = allocated.get("kv_cache_gib")
    if planned is None or planned.estimated or found is None:
        return 0
    return max(0, planned.kv_cache_bytes - planned.margin_bytes - round(found * GIB))


def gained_by_compiling(planned: Footprint | None, allocated: Mapping[str, float]) -> int:
    """Return how much more cache the next start may have, its kernels being compiled now.

    0 where the cache that the log names is no smaller than planned.
    """
    found = allocated.get("kv_cache_gib")
    if planned is None or found is None or round(found * GIB) >= planned.kv_cache_bytes:
        return 0
    return planned.first_start_bytes


def _words(key: str, value: float) -> str:
    if key == "kv_cache_tokens":
        return f"{value:,.0f} KV tokens"
    return f"{key.removesuffix('_bytes').replace('_', ' ')} {gib(round(value))}"
