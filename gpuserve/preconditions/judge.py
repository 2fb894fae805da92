"""Every precondition that follows from a profile, a machine and a memory plan."""

from collections.abc import Iterator, Mapping
from typing import Literal

from gpuserve.errors import Problem
from gpuserve.memory.engine import ModelFacts
from gpuserve.memory.report import FitReport
from gpuserve.memory.weights import weights_bytes
from gpuserve.preconditions.cards import card_problems, usage_problems
from gpuserve.preconditions.checkpoint import checkpoint_problems
from gpuserve.preconditions.host import (
    SPARE_BYTES,
    download_problem,
    log_problem,
    memory_problems,
    shared_memory_problem,
)
from gpuserve.preconditions.serving import serving_problems
from gpuserve.profile.spec import ModelSpec, Profile
from gpuserve.readings import Gpu, Machine

Facts = Mapping[str, ModelFacts]


def preconditions(
    profile: Profile,
    facts: Facts,
    machine: Machine,
    device: Literal["cuda", "cpu"],
    report: FitReport,
) -> tuple[Problem, ...]:
    """Return what would end an engine of *report*, or make it serve badly.

    A problem that is not a warning is one that the profile must answer for; `host_problems`
    has what the host lacks.
    """
    placed = {grant.model: grant.gpus for grant in report.grants}
    lengths = {grant.model: grant.max_model_len for grant in report.grants}
    found: list[Problem] = []
    for spec in profile.models:
        arch = facts[spec.name].architecture
        found += checkpoint_problems(spec, arch)
        if device == "cuda":
            found += card_problems(spec, arch, _cards(spec, placed.get(spec.name), machine))
    if device == "cuda":
        found += usage_problems(machine, [(m, placed.get(m.name, ())) for m in profile.models])
    found += serving_problems(profile, lengths)
    return tuple(found)


def host_problems(profile: Profile, facts: Facts, machine: Machine) -> tuple[Problem, ...]:
    """Return what the host lacks for *profile*: RAM, shared memory, room on its disks."""
    return tuple(_host_problems(profile, facts, machine))


def _host_problems(profile: Profile, facts: Facts, machine: Machine) -> Iterator[Problem]:
    sizes = {spec.name: _checkpoint_bytes(facts[spec.name]) for spec in profile.models}
    yield from memory_problems([(m, sizes[m.name]) for m in profile.models], machine.host)
    missing = {
        spec.index: sizes[spec.name]
        for spec in profile.models
        if not facts[spec.name].here and not spec.model.startswith("/")
    }
    for problem in (
        shared_memory_problem(profile.models, machine.host),
        download_problem(missing, machine.downloads, SPARE_BYTES),
        log_problem(len(profile.models), machine.logs),
    ):
        if problem is not None:
            yield problem


def _checkpoint_bytes(facts: ModelFacts) -> int:
    """Return the size of the weights on disk, about; 0 where nothing is known of them."""
    if facts.tensor_bytes is not None:
        return facts.tensor_bytes
    return 0 if facts.architecture is None else weights_bytes(facts.architecture)


def _cards(spec: ModelSpec, placed: tuple[int, ...] | None, machine: Machine) -> tuple[Gpu, ...]:
    """Return the cards that *spec* runs on: those of its place, else those it names, else all."""
    indices = placed or spec.gpus
    if indices is None:
        return machine.gpus
    return tuple(gpu for gpu in machine.gpus if gpu.index in indices)
