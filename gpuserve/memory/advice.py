"""What is short, in words with figures, and the cheapest changes that would make it fit.

Every change that is proposed was tried: the whole profile fits with it and nothing else. Two
changes together are proposed only where no single one suffices.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations

from gpuserve.errors import Problem
from gpuserve.memory.changes import (
    KINDS,
    Box,
    Holds,
    Variant,
    crowd,
    fewer,
    largest,
    mildest,
    mildest_pair,
)
from gpuserve.memory.engine import ModelFacts, resolve
from gpuserve.memory.host import least_host_bytes
from gpuserve.memory.report import FitReport, Shortfall
from gpuserve.profile.spec import Demand, ModelSpec, Profile
from gpuserve.readings import holders
from gpuserve.units import GIB, gib

Facts = Mapping[str, ModelFacts]
Fits = Callable[[Profile, Facts], bool]
_SIZE_STEP = GIB // 10
# One trial places every model, at some 60 us each (measured): a good second in all. Profiles of
# ten models, all of them short, stay far below.
_PLACED_AT_MOST = 20_000
_PAIRS_AT_MOST = 3


def shortfall_problems(
    profile: Profile, facts: Facts, report: FitReport, fits: Fits, later: Fits
) -> tuple[Problem, ...]:
    """Return one problem for each shortfall of *report*; `fits` tries a changed profile.

    `later` tries it on the whole hardware, and is asked where nothing fits beside what others hold
    now. With many models only those that lack most are tried, so that the answer comes soon.
    """
    most = _PLACED_AT_MOST // max(1, len(profile.models))
    trials, trials_later = _Trials(fits, most), _Trials(later, most)
    found: list[tuple[int, Problem]] = []
    seen: set[str] = set()
    for short in sorted(report.shortfalls, key=lambda s: -s.short_bytes):
        spec = profile.model(short.model)
        if spec is None or spec.name in seen:
            # The ranks of one engine are short alike; the largest lack speaks for all.
            continue
        seen.add(spec.name)
        hint = _last_resort(short, report)
        if not short.now and trials.left <= 0:
            hint = "no change was tried for it: many models are short, begin with the others"
        elif not short.now:
            changes = "; or ".join(_changes(profile, facts, spec, short, report, trials))
            if not changes and any(s.gpu.free_bytes < s.gpu.total_bytes for s in report.gpus):
                changes = "; or ".join(_changes(profile, facts, spec, short, report, trials_later))
                changes = changes and f"when nobody else holds memory: {changes}"
            hint = changes or hint
        problem = Problem(
            where=f"model[{spec.index}]",
            message=_sentence(short, report) + _shares(profile, short, report),
            hint=hint,
        )
        found.append((spec.index, problem))
    return tuple(problem for _, problem in sorted(found, key=lambda pair: pair[0]))


class _Trials:
    """Tries changed profiles as long as `left` lasts; after that, nothing fits any more."""

    def __init__(self, fits: Fits, most: int) -> None:
        self._fits = fits
        self.left = most

    def __call__(self, profile: Profile, facts: Facts) -> bool:
        self.left -= 1
        return self.left >= 0 and self._fits(profile, facts)


def _sentence(short: Shortfall, report: FitReport) -> str:
    place = "host memory" if short.gpu is None else f"GPU {short.gpu}"
    held = "is free now" if short.now else "is left for it"
    grant = next((g for g in report.grants if g.model == short.model), None)
    own = grant is not None and short.available_bytes == grant.reserved_bytes
    held = "is what it may take" if own else held
    return (
        f'"{short.model}" needs {gib(short.needed_bytes)} of {place}, '
        f"{gib(short.available_bytes)} {held}: short by {_short(short.short_bytes)}"
    )


def _shares(profile: Profile, short: Shortfall, report: FitReport) -> str:
    """Say what stated fractions mean, where they are more than a whole card together."""
    here = {grant.model for grant in report.grants if short.gpu in grant.gpus}
    stated = [
        spec.gpu_memory_utilization
        for spec in profile.models
        if spec.name in here and spec.gpu_memory_utilization is not None
    ]
    if len(stated) < 2 or sum(stated) <= 1:
        return ""
    shares = " + ".join(f"{share:g}" for share in stated)
    return (
        f". Each fraction is of the whole card, not of what is left ({shares} = {sum(stated):g}), "
        "and vLLM wants it free when it starts"
    )


def _short(count_bytes: int) -> str:
    return gib(count_bytes) if count_bytes >= GIB // 100 else f"{count_bytes} bytes"


def _last_resort(short: Shortfall, report: FitReport) -> str:
    if short.now:
        there = next((s.gpu.processes for s in report.gpus if s.gpu.index == short.gpu), ())
        who = f": {holders(there)}" if there else "; `nvidia-smi` names them"
        return f"wait for others who hold memory, or stop them{who}"
    return "use a smaller model, a larger card, or more of them"


def _changes(
    profile: Profile,
    facts: Facts,
    spec: ModelSpec,
    short: Shortfall,
    report: FitReport,
    fits: Fits,
) -> Iterator[str]:
    """Yield every single change that does, else the mildest pairs of two."""
    box = Box(cpu=report.device == "cpu", gpus=len(report.gpus))
    own = facts[spec.name]

    def holds(variant: Variant) -> bool:
        return fits(_with(profile, variant.spec), {**facts, spec.name: variant.facts})

    singles = list(_resizes(profile, facts, spec, short, fits, cpu=box.cpu))
    for kind in KINDS:
        variant = mildest(kind(spec, own, box), holds)
        if variant is not None:
            singles.append(variant.words)
        elif kind is fewer and spec.demand is not None:
            singles += _fewer_everywhere(profile, facts, spec.demand, fits)
    yield from singles or _pairs(spec, own, box, holds)


def _pairs(spec: ModelSpec, facts: ModelFacts, box: Box, holds: Holds) -> Iterator[str]:
    """Yield the cheapest combinations of two changes, each no larger than it must be."""
    ladders = [(ladder, kind) for kind in KINDS if (ladder := kind(spec, facts, box)) is not None]
    pairs = sorted(combinations(ladders, 2), key=lambda pair: pair[0][0].cost + pair[1][0].cost)
    found = 0
    for (first, _), (_, second) in pairs:
        both = mildest_pair(first, second, box, holds)
        if both is not None:
            yield " and ".join(variant.words for variant in both)
            found += 1
        if found == _PAIRS_AT_MOST:
            return


def _resizes(
    profile: Profile,
    facts: Facts,
    spec: ModelSpec,
    short: Shortfall,
    fits: Fits,
    *,
    cpu: bool,
) -> Iterator[str]:
    """All that is left for a model that states its size, or the little more that it needs."""
    if not _sized(spec):
        return
    engine = resolve(spec, facts[spec.name], cpu=cpu)
    least = least_host_bytes(engine) if cpu else engine.least_bytes + engine.context
    for wanted in (short.available_bytes // _SIZE_STEP, -(-least // _SIZE_STEP)):
        size = wanted * _SIZE_STEP
        if size >= least and fits(_with(profile, _resized(spec, size)), facts):
            yield f'memory = "{gib(size, 1)}"'
            return


def _sized(spec: ModelSpec) -> bool:
    return (
        spec.memory_bytes is not None
        or spec.gpu_memory_utilization is not None
        or spec.kv_cache_memory_bytes is not None
    )


def _resized(spec: ModelSpec, memory_bytes: int) -> ModelSpec:
    return replace(
        spec, memory_bytes=memory_bytes, gpu_memory_utilization=None, kv_cache_memory_bytes=None
    )


def _fewer_everywhere(profile: Profile, facts: Facts, demand: Demand, fits: Fits) -> Iterator[str]:
    together = largest(demand.concurrency - 1, lambda n: fits(_capped(profile, n), facts))
    if together:
        yield f"demand.concurrency = {together} for every model"


def _capped(profile: Profile, concurrency: int) -> Profile:
    models = tuple(
        m
        if m.demand is None or m.demand.concurrency <= concurrency
        else crowd(m, m.demand, concurrency)
        for m in profile.models
    )
    return replace(profile, models=models)


def _with(profile: Profile, spec: ModelSpec) -> Profile:
    models = tuple(spec if m.name == spec.name else m for m in profile.models)
    return replace(profile, models=models)
