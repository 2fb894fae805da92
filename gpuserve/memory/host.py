"""Grants on a box without GPUs: weights, cache and the processes themselves in host memory."""

import math
from collections.abc import Sequence

from gpuserve.memory.engine import Engine
from gpuserve.memory.grants import shares
from gpuserve.memory.report import Grant, Shortfall, Verdict
from gpuserve.readings import Host
from gpuserve.units import GIB


def host_grants(
    engines: Sequence[Engine], host: Host
) -> tuple[tuple[Grant, ...], tuple[Shortfall, ...]]:
    """Return what each engine gets of the host's memory, and what is missing.

    The cache is sized in whole GiB, at least one (VLLM_CPU_KVCACHE_SPACE, vllm/envs.py). An
    engine that states nothing gets its share of what is left, but no more than its
    max_num_seqs requests of full length can use.
    """
    spaces = {e.spec.name: _stated_gib(e, host) for e in engines if not shares(e)}
    free = host.ram_available_bytes - sum(
        _reserved(e, spaces[e.spec.name]) for e in engines if e.spec.name in spaces
    )
    # What an engine may take beyond the median stays free, as does nothing else: the rest of
    # the host is in what is available already.
    free -= sum(e.margin_bytes for e in engines)
    sharing = [e for e in engines if e.spec.name not in spaces]
    for count, engine in zip(range(len(sharing), 0, -1), _by_use(sharing), strict=True):
        share = (free // count - _reserved(engine, 0)) // (engine.ranks * GIB)
        spaces[engine.spec.name] = max(1, min(share, _useful_gib(engine)))
        free -= _reserved(engine, spaces[engine.spec.name])
    short = _shortfalls(engines, spaces, host)
    left = host.ram_available_bytes - sum(_reserved(e, spaces[e.spec.name]) for e in engines)
    slack = left - sum(e.margin_bytes for e in engines)
    grants = [
        _grant(engine, spaces[engine.spec.name], _verdict(engine, spaces, short, slack))
        for engine in engines
    ]
    return tuple(grants), short


def _stated_gib(engine: Engine, host: Host) -> int:
    spec = engine.spec
    if spec.kv_cache_memory_bytes is not None:
        return math.ceil(spec.kv_cache_memory_bytes / GIB)
    if spec.demand is not None:
        return max(1, math.ceil(engine.promise_bytes / GIB))
    stated = spec.memory_bytes or int(host.ram_total_bytes * (spec.gpu_memory_utilization or 0))
    each = stated // engine.ranks - engine.context - engine.fixed_bytes
    return max(1, each // GIB)


def _useful_gib(engine: Engine) -> int:
    if engine.kv is None:
        return 1
    most = engine.kv.promise_bytes(engine.promise_tokens, engine.max_num_seqs)
    return max(1, math.ceil(most / GIB))


def _by_use(engines: Sequence[Engine]) -> list[Engine]:
    """The engine that can use least comes first, so that what it leaves goes to the others."""
    return sorted(engines, key=lambda e: (_useful_gib(e), e.spec.name))


def _reserved(engine: Engine, space_gib: int) -> int:
    return engine.ranks * (engine.context + engine.fixed_bytes + space_gib * GIB)


def _shortfalls(
    engines: Sequence[Engine], spaces: dict[str, int], host: Host
) -> tuple[Shortfall, ...]:
    found = []
    left_total, left_now = host.ram_total_bytes, host.ram_available_bytes
    for engine in sorted(engines, key=lambda e: (_reserved(e, spaces[e.spec.name]), e.spec.name)):
        name = engine.spec.name
        pool = spaces[name] * GIB
        needed = _reserved(engine, spaces[name])
        if pool < engine.promise_bytes:
            least = engine.ranks * (engine.context + engine.least_bytes)
            found.append(
                Shortfall(model=name, gpu=None, needed_bytes=least, available_bytes=needed)
            )
        if needed > min(left_total, left_now):
            now = needed <= left_total
            found.append(
                Shortfall(
                    model=name,
                    gpu=None,
                    needed_bytes=needed,
                    available_bytes=max(0, left_now if now else left_total),
                    now=now,
                )
            )
        left_total -= needed
        left_now -= needed
    return tuple(found)


def _verdict(
    engine: Engine, spaces: dict[str, int], short: Sequence[Shortfall], slack: int
) -> Verdict:
    mine = [s for s in short if s.model == engine.spec.name]
    if mine:
        return "not_now" if all(s.now for s in mine) else "does_not_fit"
    if engine.kv is None or slack < 0:
        return "risky"
    spare = spaces[engine.spec.name] * GIB - engine.promise_bytes
    return "tight" if spare + slack < engine.request_bytes else "fits"


def _grant(engine: Engine, space_gib: int, verdict: Verdict) -> Grant:
    reserved = _reserved(engine, space_gib)
    return Grant(
        model=engine.spec.name,
        gpus=(),
        verdict=verdict,
        gpu_memory_utilization=None,
        kv_cache_space_gib=space_gib,
        max_model_len=engine.max_model_len,
        max_num_seqs=engine.max_num_seqs,
        max_num_batched_tokens=engine.max_num_batched_tokens,
        budget_bytes=reserved - engine.ranks * engine.context,
        reserved_bytes=reserved,
        footprint=engine.footprint(space_gib * GIB),
    )
