"""Ways to serve a question on one machine, each tried: as it is, split, packed, with FP8 cache.

An option changes every model alike. Options stand in the order of what they cost: nothing, more
cards, a smaller cache, smaller weights.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from gpuserve.memory.engine import ModelFacts
from gpuserve.memory.quantization import Quantization
from gpuserve.memory.report import FitReport, Verdict
from gpuserve.planning import make_plan
from gpuserve.profile.spec import ModelSpec, Profile
from gpuserve.readings import Machine
from gpuserve.sizing.question import Ask, Known, profile_of

AWQ = Quantization(method="awq", bits=4, group_size=128, zero_points=True)
# What each change costs: an order, not a measure. Cards are spent before quality is.
_SPLIT_COST, _CACHE_COST = 1, 8
_WEIGHT_COST = {"": 0, "fp8": 16, "4-bit": 32}
_SPLITS = (1, 2, 4, 8)
_FITTING: tuple[Verdict, ...] = ("fits", "tight", "risky")


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way: `changes` in words (none: as asked), its profile and the report on it.

    `most` is how many requests of the asked context the first model could hold at once with
    everything that is left, None where it does not fit or there are several models.
    `unnamed`: it needs a checkpoint that nobody here knows the name of.
    """

    changes: tuple[str, ...]
    cost: int
    profile: Profile
    report: FitReport
    most: float | None = None
    unnamed: bool = False

    @property
    def verdict(self) -> Verdict:
        """The verdict of the whole."""
        return self.report.verdict

    @property
    def whole(self) -> bool:
        """Whether weights and cache stay as they are: only cards are spent."""
        return self.cost < _CACHE_COST

    @property
    def fits(self) -> bool:
        """Whether it can be served so, if only closely."""
        return self.verdict in _FITTING


def options(
    asks: Sequence[Ask], known: Mapping[str, Known], machine: Machine
) -> tuple[Option, ...]:
    """Return every option for *asks* on *machine*; `known` has an entry for each ask's model.

    In the order of cost; those that a model or a card cannot do at all are left out, but for the
    first, which is what was asked.
    """
    plain = profile_of(asks)
    found = []
    for weights, cache, ranks in product(_WEIGHT_COST, ("", "fp8"), _SPLITS):
        if ranks > len(machine.gpus):
            continue
        changed = _changed(plain, known, weights=weights, cache=cache, ranks=ranks)
        if changed is None:
            continue
        profile, facts, unnamed = changed
        report = _report(profile, facts, machine)
        changes = tuple(_words(weights, cache, ranks))
        if changes and report.verdict == "invalid":
            continue
        cost = _WEIGHT_COST[weights] + (_CACHE_COST if cache else 0) + _SPLIT_COST * (ranks - 1)
        option = Option(changes=changes, cost=cost, profile=profile, report=report, unnamed=unnamed)
        found.append(replace(option, most=_most(option, facts, machine)))
    return tuple(sorted(found, key=lambda option: option.cost))


def best(found: Sequence[Option]) -> Option | None:
    """Return the option to take: what fits without a caution first, then the cheapest; or None."""
    fitting = [option for option in found if option.fits]
    return min(fitting, key=lambda o: (_FITTING.index(o.verdict) > 1, o.cost), default=None)


def _changed(
    plain: Profile, known: Mapping[str, Known], *, weights: str, cache: str, ranks: int
) -> tuple[Profile, dict[str, ModelFacts], bool] | None:
    models, facts, unnamed = [], {}, False
    for spec in plain.models:
        changed = _weighed(spec, known[spec.model], weights)
        if changed is None:
            return None
        spec, fact, nameless = changed
        spec = replace(spec, kv_cache_dtype=cache or None, tensor_parallel_size=ranks)
        models.append(spec)
        facts[spec.name] = fact
        unnamed |= nameless
    return replace(plain, models=tuple(models)), facts, unnamed


def _weighed(
    spec: ModelSpec, known: Known, weights: str
) -> tuple[ModelSpec, ModelFacts, bool] | None:
    """Return the model with smaller weights, None where they are quantized already."""
    arch = known.facts.architecture
    if not weights:
        return spec, known.facts, False
    if arch is None or arch.quantization is not None:
        return None
    if weights == "fp8":
        return replace(spec, quantization="fp8"), known.facts, False
    if known.packed is not None:
        repository, facts = known.packed
        return replace(spec, model=repository), facts, False
    return spec, ModelFacts(architecture=replace(arch, quantization=AWQ)), True


def _report(profile: Profile, facts: Mapping[str, ModelFacts], machine: Machine) -> FitReport:
    plan = make_plan(
        profile, machine, device="cuda", facts=facts, executables={}, run_dir=Path("/run/plan")
    )
    return plan.report


def _most(option: Option, facts: Mapping[str, ModelFacts], machine: Machine) -> float | None:
    if not option.fits or len(option.profile.models) != 1:
        return None
    (spec,) = option.profile.models
    free = replace(spec, demand=None, gpus=option.report.grants[0].gpus)
    report = _report(replace(option.profile, models=(free,)), facts, machine)
    footprint = report.grants[0].footprint if report.grants else None
    return None if footprint is None else footprint.max_concurrency


def _words(weights: str, cache: str, ranks: int) -> Iterator[str]:
    if ranks > 1:
        yield f"tensor_parallel_size = {ranks}"
    if cache:
        yield 'kv_cache_dtype = "fp8"'
    if weights == "fp8":
        yield 'quantization = "fp8" (8-bit weights, made while loading)'
    elif weights:
        yield "a 4-bit checkpoint (AWQ)"
