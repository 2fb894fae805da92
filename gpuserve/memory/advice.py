"""What is short, in words with figures, and the cheapest changes that would make it fit.

Every change that is proposed was tried: the whole profile fits with it and nothing else.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from gpuserve.errors import Problem
from gpuserve.memory.architecture import Architecture
from gpuserve.memory.engine import Engine, ModelFacts, resolve
from gpuserve.memory.host import least_host_bytes
from gpuserve.memory.quantization import Quantization
from gpuserve.memory.report import FitReport, Shortfall
from gpuserve.profile.spec import Demand, ModelSpec, Profile
from gpuserve.units import GIB, gib

Facts = Mapping[str, ModelFacts]
Fits = Callable[[Profile, Facts], bool]
# Contexts are proposed in steps of this, as people state them.
_CONTEXT_STEP = 1024
_SIZE_STEP = GIB // 10
# One trial places every model, at some 60 us each (measured): a good second in all. Profiles of
# ten models, all of them short, stay far below.
_PLACED_AT_MOST = 20_000
_AWQ = Quantization(method="awq", bits=4, group_size=128, zero_points=True)


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
        hint = _last_resort(short)
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


def _last_resort(short: Shortfall) -> str:
    if short.now:
        return "others hold the memory: stop them, or wait; `nvidia-smi` names them"
    return "use a smaller model, a larger card, or more of them"


def _changes(
    profile: Profile,
    facts: Facts,
    spec: ModelSpec,
    short: Shortfall,
    report: FitReport,
    fits: Fits,
) -> Iterator[str]:
    cpu = report.device == "cpu"
    engine = resolve(spec, facts[spec.name], cpu=cpu)
    if _sized(spec):
        least = least_host_bytes(engine) if cpu else engine.least_bytes + engine.context
        # All that is left for it, or the little more that its promise needs.
        for wanted in (short.available_bytes // _SIZE_STEP, -(-least // _SIZE_STEP)):
            size = wanted * _SIZE_STEP
            if size >= least and fits(_with(profile, _resized(spec, size)), facts):
                yield f'memory = "{gib(size, 1)}"'
                break
    yield from _shorter(profile, facts, spec, engine.promise_tokens, fits)
    if spec.demand is not None:
        yield from _fewer(profile, facts, spec, spec.demand, fits)
    if spec.kv_cache_dtype in {None, "auto"}:
        yield from _packed_cache(profile, facts, spec, engine, fits, cpu=cpu)
    if not cpu:
        yield from _split(profile, facts, spec, report, fits)
        yield from _eager(profile, facts, spec, engine, fits)
    arch = facts[spec.name].architecture
    if arch is not None and arch.quantization is None:
        yield from _quantized(profile, facts, spec, arch, engine.weights, fits)


def _packed_cache(
    profile: Profile, facts: Facts, spec: ModelSpec, engine: Engine, fits: Fits, *, cpu: bool
) -> Iterator[str]:
    packed = replace(spec, kv_cache_dtype="fp8")
    if fits(_with(profile, packed), facts):
        smaller = resolve(packed, facts[spec.name], cpu=cpu).promise_bytes
        yield (
            f'kv_cache_dtype = "fp8": {gib(smaller)} of KV cache instead of '
            f"{gib(engine.promise_bytes)}, where the card and its attention backend read it"
        )


def _split(
    profile: Profile, facts: Facts, spec: ModelSpec, report: FitReport, fits: Fits
) -> Iterator[str]:
    arch = facts[spec.name].architecture
    if arch is None or spec.gpus is not None or spec.pipeline_parallel_size > 1:
        return
    for ranks in (2, 4, 8):
        if ranks <= spec.tensor_parallel_size or arch.heads % ranks:
            continue
        if ranks > len(report.gpus):
            return
        wide = replace(spec, tensor_parallel_size=ranks)
        if fits(_with(profile, wide), facts):
            each = resolve(wide, facts[spec.name])
            yield (
                f"tensor_parallel_size = {ranks}: {gib(each.least_bytes + each.context)} on each "
                f"of {ranks} GPUs"
            )
            return


def _eager(
    profile: Profile, facts: Facts, spec: ModelSpec, engine: Engine, fits: Fits
) -> Iterator[str]:
    if engine.graphs and fits(_with(profile, replace(spec, enforce_eager=True)), facts):
        yield (
            f"enforce_eager = true: without CUDA graphs, {gib(engine.graphs)}, and with slower "
            "answers"
        )


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


def _shorter(
    profile: Profile, facts: Facts, spec: ModelSpec, tokens: int, fits: Fits
) -> Iterator[str]:
    def changed(length: int) -> ModelSpec:
        demand = spec.demand and replace(spec.demand, context_tokens=length)
        return replace(spec, demand=demand, max_model_len=length)

    most = _largest(
        (tokens - 1) // _CONTEXT_STEP,
        lambda n: fits(_with(profile, changed(n * _CONTEXT_STEP)), facts),
    )
    if most:
        name = "demand.context_tokens" if spec.demand else "max_model_len"
        yield f"{name} = {most * _CONTEXT_STEP} instead of {tokens}"


def _fewer(
    profile: Profile, facts: Facts, spec: ModelSpec, demand: Demand, fits: Fits
) -> Iterator[str]:
    most = _largest(
        demand.concurrency - 1,
        lambda n: fits(_with(profile, _crowd(spec, demand, n)), facts),
    )
    if most:
        yield f"demand.concurrency = {most} instead of {demand.concurrency}"
        return
    together = _largest(demand.concurrency - 1, lambda n: fits(_capped(profile, n), facts))
    if together:
        yield f"demand.concurrency = {together} for every model"


def _crowd(spec: ModelSpec, demand: Demand, concurrency: int) -> ModelSpec:
    return replace(spec, demand=replace(demand, concurrency=concurrency), max_num_seqs=concurrency)


def _capped(profile: Profile, concurrency: int) -> Profile:
    models = tuple(
        m
        if m.demand is None or m.demand.concurrency <= concurrency
        else _crowd(m, m.demand, concurrency)
        for m in profile.models
    )
    return replace(profile, models=models)


def _quantized(
    profile: Profile,
    facts: Facts,
    spec: ModelSpec,
    arch: Architecture,
    weights: int,
    fits: Fits,
) -> Iterator[str]:
    packed = ModelFacts(architecture=replace(arch, quantization=_AWQ))
    other = {**facts, spec.name: packed}
    if fits(profile, other):
        smaller = resolve(spec, packed).weights
        yield f"a 4-bit checkpoint (AWQ): {gib(smaller)} of weights instead of {gib(weights)}"


def _with(profile: Profile, spec: ModelSpec) -> Profile:
    models = tuple(spec if m.name == spec.name else m for m in profile.models)
    return replace(profile, models=models)


def _largest(most: int, holds: Callable[[int], bool]) -> int:
    """Return the largest n of 1 to *most* for which *holds*, which is monotone; 0 if none."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low
