"""From a profile, a machine and what is known about models and executables to a plan.

Pure: everything that was read comes in as values; `prepare` reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from gpuserve.launch import Place, launch_of
from gpuserve.memory.assess import assess
from gpuserve.memory.engine import ModelFacts
from gpuserve.memory.release import Release, parse_release
from gpuserve.memory.report import FitReport
from gpuserve.pins import with_pins
from gpuserve.plan import Plan
from gpuserve.preconditions.judge import preconditions
from gpuserve.profile.spec import ModelSpec, Profile
from gpuserve.readings import Machine
from gpuserve.rundir import RunDir

_HOPPER = (9, 0)  # H100, H200, GH200


@dataclass(frozen=True, slots=True, kw_only=True)
class Executable:
    """A vLLM, as far as a launch needs to know it; None: cannot be told."""

    path: str
    version: str | None = None


def make_plan(
    profile: Profile,
    machine: Machine,
    *,
    device: Literal["cuda", "cpu"],
    facts: Mapping[str, ModelFacts],
    executables: Mapping[str, Executable],
    run_dir: Path,
) -> Plan:
    """Return the plan for *profile* on *machine*, with sockets in *run_dir*.

    `facts` has an entry for each model's name; `executables` maps what a model's `vllm` says to
    what was found, and where it says nothing that text itself is the program. An invalid
    profile gives a report with problems and no launches.
    """
    facts = facts_there(profile, machine, facts, executables)
    versions = {stated: found.version for stated, found in executables.items()}
    sized, unpinned = with_pins(profile, facts, machine.gpus, versions, device)
    report = _judged(sized, facts, machine, device)
    report = replace(report, problems=report.problems + unpinned)
    grants = {grant.model: grant for grant in report.grants}
    launches = tuple(
        launch_of(
            spec,
            grants[spec.name],
            facts[spec.name],
            _place(profile, spec, machine, device, executables, run_dir),
            machine.gpus,
        )
        for spec in sized.models
        if spec.name in grants
    )
    return Plan(profile=profile, report=report, launches=launches)


def facts_there(
    profile: Profile,
    machine: Machine,
    facts: Mapping[str, ModelFacts],
    executables: Mapping[str, Executable],
) -> dict[str, ModelFacts]:
    """Return *facts* with what the executables and the cards of *machine* add to them."""
    return {
        spec.name: replace(
            facts[spec.name],
            release=_release(spec, executables, machine),
            hopper=any(
                gpu.compute_capability == _HOPPER
                for gpu in machine.gpus
                if spec.gpus is None or gpu.index in spec.gpus
            ),
        )
        for spec in profile.models
    }


def _release(
    spec: ModelSpec, executables: Mapping[str, Executable], machine: Machine
) -> Release | None:
    """The release that decides the rules of memory: of the executable, else of the machine file."""
    found = executables.get(spec.vllm)
    version = found.version if found is not None else None
    return parse_release(version or machine.host.vllm_version)


def _judged(
    profile: Profile,
    facts: Mapping[str, ModelFacts],
    machine: Machine,
    device: Literal["cuda", "cpu"],
) -> FitReport:
    """Return the report on *profile*, which is invalid where vLLM would refuse to start."""
    report = assess(profile, facts, machine, device)
    if report.verdict == "invalid":
        return report
    found = preconditions(profile, facts, machine, device, report)
    report = replace(report, problems=report.problems + found)
    if all(problem.warning for problem in found):
        return report
    return replace(report, verdict="invalid", grants=(), shortfalls=())


def _place(
    profile: Profile,
    spec: ModelSpec,
    machine: Machine,
    device: Literal["cuda", "cpu"],
    executables: Mapping[str, Executable],
    run_dir: Path,
) -> Place:
    found = executables.get(spec.vllm, Executable(path=spec.vllm))
    socket = str(RunDir(run_dir).engine_socket(spec.name)) if spec.port is None else None
    return Place(
        executable=found.path,
        version=found.version,
        socket=socket,
        port=spec.port,
        auto_name=profile.routing.auto if _routed(profile) else None,
        cpu_threads=max(1, machine.host.cpus // len(profile.models)) if device == "cpu" else None,
    )


def _routed(profile: Profile) -> bool:
    """Whether a request for the automatic name can end at any model: as a route or a fallback."""
    routing = profile.routing
    named = routing.code or routing.general or routing.default or routing.rules
    return bool(named) or len(profile.models) == 1
