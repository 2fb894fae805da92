"""Whether a profile fits a machine: everything that `check` answers, computed from values."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from gpuserve.errors import Problem
from gpuserve.memory.advice import shortfall_problems
from gpuserve.memory.cautions import cautions
from gpuserve.memory.engine import Engine, ModelFacts, resolve
from gpuserve.memory.fraction import reserved_on
from gpuserve.memory.grants import shares
from gpuserve.memory.host import host_grants
from gpuserve.memory.placement import Placement, grants, place
from gpuserve.memory.report import FitReport, GpuShare, Grant, Verdict
from gpuserve.memory.rooms import hardware_rooms, overreserved, rooms_now
from gpuserve.memory.validity import validity_problems
from gpuserve.memory.verdict import worst
from gpuserve.preconditions.cards import card_problems
from gpuserve.profile.spec import ModelSpec, Profile
from gpuserve.readings import Gpu, Machine

Facts = Mapping[str, ModelFacts]
Device = Literal["cuda", "cpu"]


def assess(profile: Profile, facts: Facts, machine: Machine, device: Device) -> FitReport:
    """Return the report on *profile*; `facts` has an entry for each model, by name.

    Never raises for what a profile may say. Where a problem that is not a warning makes the
    profile invalid, the report has no grants.
    """
    gpus = None if device == "cpu" else machine.gpus
    problems = validity_problems(profile, facts, gpus, machine.hidden_gpus)
    problems += _unknown(profile, facts, device)
    if any(not problem.warning for problem in problems):
        return _report(profile, machine, device, (), "invalid", problems=problems)
    if device == "cpu":
        report = _on_host(profile, facts, machine, problems)
    else:
        report = _on_gpus(profile, facts, machine, problems)
        full = overreserved(machine.gpus, profile.upstreams)
        if full:
            report = replace(report, verdict="does_not_fit", problems=report.problems + full)
    if not report.shortfalls:
        close = tuple(cautions(engines_of(profile, facts, device), report.grants))
        return replace(report, problems=report.problems + close)
    advice = shortfall_problems(
        profile,
        facts,
        report,
        lambda other, known: _fits(other, known, machine, device),
        lambda other, known: _fits(other, known, _freed(machine), device),
    )
    return replace(report, problems=report.problems + advice)


def engines_of(
    profile: Profile, facts: Facts, device: Device, gpus: Sequence[Gpu] = ()
) -> tuple[Engine, ...]:
    """Return every model with its settings resolved, in the order of the profile.

    Those of *gpus* that are too old for a model are barred for it.
    """
    return tuple(
        replace(
            resolve(spec, facts[spec.name], cpu=device == "cpu"),
            barred_gpus=_barred(spec, facts[spec.name], gpus),
        )
        for spec in profile.models
    )


def _barred(spec: ModelSpec, facts: ModelFacts, gpus: Sequence[Gpu]) -> frozenset[int]:
    if len({gpu.compute_capability for gpu in gpus}) < 2:
        return frozenset()  # one kind of card: there is nothing to choose
    return frozenset(
        gpu.index
        for gpu in gpus
        if any(not problem.warning for problem in card_problems(spec, facts.architecture, [gpu]))
    )


def _fits(profile: Profile, facts: Facts, machine: Machine, device: Device) -> bool:
    if device == "cpu":
        report = _on_host(profile, facts, machine, ())
        return report.verdict not in {"does_not_fit", "not_now"}
    rooms = rooms_now(machine.gpus, profile.upstreams)
    return not place(engines_of(profile, facts, device, machine.gpus), rooms).shortfalls


def _freed(machine: Machine) -> Machine:
    gpus = tuple(replace(gpu, free_bytes=gpu.total_bytes) for gpu in machine.gpus)
    return replace(machine, gpus=gpus)


def _on_host(
    profile: Profile, facts: Facts, machine: Machine, problems: tuple[Problem, ...]
) -> FitReport:
    made, short = host_grants(engines_of(profile, facts, "cpu"), machine.host)
    verdict = worst(grant.verdict for grant in made)
    report = _report(profile, machine, "cpu", made, verdict, problems=problems)
    return replace(report, shortfalls=short)


def _on_gpus(
    profile: Profile, facts: Facts, machine: Machine, problems: tuple[Problem, ...]
) -> FitReport:
    engines = engines_of(profile, facts, "cuda", machine.gpus)
    rooms = rooms_now(machine.gpus, profile.upstreams)
    now = place(engines, rooms)
    if not now.shortfalls:
        made = grants(now, rooms)
        verdict = worst(grant.verdict for grant in made)
        return _report(profile, machine, "cuda", made, verdict, problems=problems)
    hardware = hardware_rooms(machine.gpus, profile.upstreams)
    ever = place(engines, hardware)
    if ever.shortfalls:
        made = grants(ever, hardware)
        report = _report(profile, machine, "cuda", made, "does_not_fit", problems=problems)
        return replace(report, shortfalls=ever.shortfalls)
    # It fits the cards: what each engine gets is of the cards, and it waits for the others.
    made = _waiting(grants(ever, hardware), now)
    report = _report(profile, machine, "cuda", made, "not_now", problems=problems)
    return replace(report, shortfalls=tuple(replace(s, now=True) for s in now.shortfalls))


def _waiting(made: Sequence[Grant], now: Placement) -> tuple[Grant, ...]:
    short = {shortfall.model for shortfall in now.shortfalls}
    return tuple(replace(g, verdict="not_now") if g.model in short else g for g in made)


def _report(
    profile: Profile,
    machine: Machine,
    device: Device,
    made: tuple[Grant, ...],
    verdict: Verdict,
    *,
    problems: tuple[Problem, ...],
) -> FitReport:
    reserved = {gpu.index: 0 for gpu in machine.gpus}
    for upstream in profile.upstreams:
        for index in upstream.gpus:
            if index in reserved:
                reserved[index] += upstream.reserve_bytes
    for gpu in machine.gpus:
        reserved[gpu.index] += sum(reserved_on(gpu, g) for g in made if gpu.index in g.gpus)
    return FitReport(
        verdict=verdict,
        device=device,
        host=machine.host,
        gpus=tuple(
            GpuShare(gpu=gpu, reserved_bytes=reserved[gpu.index])
            for gpu in (machine.gpus if device == "cuda" else ())
        ),
        grants=made,
        shortfalls=(),
        problems=problems,
    )


def _unknown(profile: Profile, facts: Facts, device: Device) -> tuple[Problem, ...]:
    """Models whose shape is not known: a warning where their size is stated, else an error."""
    found = []
    for spec in profile.models:
        if facts[spec.name].architecture is not None:
            continue
        stated = not shares(resolve(spec, facts[spec.name]))
        provable = device == "cpu" or (stated and spec.demand is None)
        if facts[spec.name].here:
            why = f'the format of "{spec.model}" states its shape in a way that is not read'
            todo = "" if provable else 'state its size: memory = "20 GiB"'
        else:
            why = f'"{spec.model}" is neither on this machine nor in the catalogue'
            if facts[spec.name].source:
                why += f" ({facts[spec.name].source})"
            todo = "fetch it first with `gpuserve pull`"
            todo += "" if provable else ', or state its size: memory = "20 GiB"'
        found.append(
            Problem(
                where=f"model[{spec.index}].model",
                message=f"{why}, so its memory cannot be proven",
                hint=todo or None,
                warning=provable,
            )
        )
    return tuple(found)
