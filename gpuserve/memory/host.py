"""Grants on a box without GPUs: weights, cache and the processes themselves in host memory.

The cache is sized in whole GiB, at least one (VLLM_CPU_KVCACHE_SPACE, vllm/envs.py), and vLLM
takes exactly that: an engine that outgrows its median takes it from what the host has left.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gpuserve.memory.engine import Engine
from gpuserve.memory.grants import shares
from gpuserve.memory.report import Grant, Shortfall, Verdict
from gpuserve.readings import Host
from gpuserve.units import GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCharge:
    """What one engine is charged, all ranks together. `stated_bytes` None: no size is stated."""

    engine: Engine
    space_gib: int
    stated_bytes: int | None = None

    @property
    def holds_promise(self) -> bool:
        """Whether its cache holds what it must."""
        return self.space_gib >= _least_gib(self.engine)

    @property
    def reserved_bytes(self) -> int:
        """What it takes; where a stated size is too small, that size: it may take no more."""
        if self.stated_bytes is not None and not self.holds_promise:
            return self.stated_bytes
        return _taken(self.engine, self.space_gib)


def host_grants(
    engines: Sequence[Engine], host: Host
) -> tuple[tuple[Grant, ...], tuple[Shortfall, ...]]:
    """Return what each engine gets of the host's memory, and what is missing.

    An engine that states nothing gets its share of what is left, but no more than its
    max_num_seqs requests of full length can use.
    """
    charges = {e.spec.name: _stated(e, host) for e in engines if not shares(e)}
    # What an engine may take beyond the median stays free, as does nothing else: the rest of
    # the host is in what is available already.
    margins = sum(e.ranks * e.margin_bytes for e in engines)
    free = host.ram_available_bytes - margins
    free -= sum(charge.reserved_bytes for charge in charges.values())
    sharing = [e for e in engines if e.spec.name not in charges]
    for count, engine in zip(range(len(sharing), 0, -1), _by_use(sharing), strict=True):
        share = (free // count - _taken(engine, 0)) // (engine.ranks * GIB)
        # Not even one request: charge what one takes, so that the host's shortfall shows.
        space = max(_least_gib(engine), min(share, _useful_gib(engine)))
        charge = HostCharge(engine=engine, space_gib=space)
        charges[engine.spec.name] = charge
        free -= charge.reserved_bytes
    short = _shortfalls(tuple(charges.values()), host)
    left = host.ram_available_bytes - sum(charge.reserved_bytes for charge in charges.values())
    made = [charges[engine.spec.name] for engine in engines]
    return tuple(_grant(c, _verdict(c, short, left - margins)) for c in made), short


def least_host_bytes(engine: Engine) -> int:
    """Return the smallest `memory` that holds the promise of *engine* on a CPU box."""
    return _taken(engine, _least_gib(engine))


def _stated(engine: Engine, host: Host) -> HostCharge:
    spec = engine.spec
    if spec.kv_cache_memory_bytes is not None:
        return HostCharge(engine=engine, space_gib=math.ceil(spec.kv_cache_memory_bytes / GIB))
    if spec.memory_bytes is None and spec.gpu_memory_utilization is None:
        return HostCharge(engine=engine, space_gib=_least_gib(engine))
    stated = spec.memory_bytes or int(host.ram_total_bytes * (spec.gpu_memory_utilization or 0))
    space = (stated - _taken(engine, 0)) // (engine.ranks * GIB)
    return HostCharge(engine=engine, space_gib=max(0, space), stated_bytes=stated)


def _least_gib(engine: Engine) -> int:
    return max(1, math.ceil(engine.promise_bytes / GIB))


def _useful_gib(engine: Engine) -> int:
    if engine.kv is None:
        return 1
    most = engine.kv.promise_bytes(engine.promise_tokens, engine.max_num_seqs)
    return max(1, math.ceil(most / GIB))


def _by_use(engines: Sequence[Engine]) -> list[Engine]:
    """The engine that can use least comes first, so that what it leaves goes to the others."""
    return sorted(engines, key=lambda e: (_useful_gib(e), e.spec.name))


def _taken(engine: Engine, space_gib: int) -> int:
    return engine.ranks * (engine.context + engine.fixed_bytes + space_gib * GIB)


def _shortfalls(charges: Sequence[HostCharge], host: Host) -> tuple[Shortfall, ...]:
    found = []
    left_total, left_now = host.ram_total_bytes, host.ram_available_bytes
    for charge in sorted(charges, key=lambda c: (c.reserved_bytes, c.engine.spec.name)):
        name = charge.engine.spec.name
        reserved = charge.reserved_bytes
        if not charge.holds_promise:
            least = least_host_bytes(charge.engine)
            found.append(
                Shortfall(model=name, gpu=None, needed_bytes=least, available_bytes=reserved)
            )
        if reserved > min(left_total, left_now):
            now = reserved <= left_total
            found.append(
                Shortfall(
                    model=name,
                    gpu=None,
                    needed_bytes=reserved,
                    available_bytes=max(0, left_now if now else left_total),
                    now=now,
                )
            )
        left_total -= reserved
        left_now -= reserved
    return tuple(found)


def _verdict(charge: HostCharge, short: Sequence[Shortfall], slack: int) -> Verdict:
    engine = charge.engine
    mine = [s for s in short if s.model == engine.spec.name]
    if mine:
        return "not_now" if all(s.now for s in mine) else "does_not_fit"
    if engine.kv is None or slack < 0:
        return "risky"
    spare = engine.ranks * (charge.space_gib * GIB - engine.promise_bytes)
    return "tight" if spare + slack < engine.ranks * engine.request_bytes else "fits"


def _grant(charge: HostCharge, verdict: Verdict) -> Grant:
    engine = charge.engine
    return Grant(
        model=engine.spec.name,
        gpus=(),
        verdict=verdict,
        gpu_memory_utilization=None,
        kv_cache_space_gib=charge.space_gib,
        max_model_len=engine.max_model_len,
        max_num_seqs=engine.max_num_seqs,
        max_num_batched_tokens=engine.max_num_batched_tokens,
        budget_bytes=max(0, charge.reserved_bytes - engine.ranks * engine.context),
        reserved_bytes=charge.reserved_bytes,
        footprint=engine.footprint(charge.space_gib * GIB),
    )
