"""Reads everything that a plan needs and makes it: what `check` and `up` both begin with.

The profile, the machine (or the description of another one), what is known about each model,
the executables. Everything wrong with any of them is a problem with its place in the profile.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from gpuserve.errors import ExitStatus, Problem, ProfileError
from gpuserve.machine.checkpoint import CheckpointError, read_facts
from gpuserve.memory.engine import ModelFacts
from gpuserve.memory.report import Verdict
from gpuserve.plan import Plan
from gpuserve.plandiff import as_held, with_held_launches, with_held_memory
from gpuserve.planning import Executable, facts_there, make_plan
from gpuserve.prepare_here import (
    build_doubts,
    find_installs,
    here_doubts,
    missing_templates,
    placed,
    untold,
)
from gpuserve.profile.known import unknown_values
from gpuserve.profile.load import read
from gpuserve.profile.source import Source
from gpuserve.profile.spec import Profile
from gpuserve.readings import Machine
from gpuserve.routing.unfit import unfit_routes
from gpuserve.rundir import RunDir
from gpuserve.stoptime import stop_time_caution

_STATUS: Mapping[Verdict, ExitStatus] = {
    "fits": ExitStatus.DONE,
    "tight": ExitStatus.DONE,
    "risky": ExitStatus.DONE,
    "not_now": ExitStatus.TEMPFAIL,
    "does_not_fit": ExitStatus.CONFIG,
    "invalid": ExitStatus.CONFIG,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A plan, or why there is none. `exit_status` is what `check` ends with.

    `plan` is None where the profile could not be read, a model is damaged, or there is no
    hardware to plan for. It may hold a report that does not fit; `exit_status` says so. `facts`
    are what is known about each model, by name.
    """

    plan: Plan | None
    problems: tuple[Problem, ...]
    exit_status: ExitStatus
    facts: Mapping[str, ModelFacts] = field(default_factory=dict)


def prepare(
    profile_path: Path,
    *,
    machine_file: Path | None = None,
    gpu: str | None = None,
    run_dir: Path | None = None,
    environment: Mapping[str, str],
    running: Plan | None = None,
) -> Prepared:
    """Return the plan for the profile in *profile_path* with sockets in *run_dir*.

    With *running*, a plan in force, engines that the profile does not change keep what they hold.

    `environment` is this process's: its CUDA_VISIBLE_DEVICES says which GPUs are ours.
    `machine_file` or `gpu` ("NVIDIA L4:2") plan for hardware that is not here; a missing vLLM
    is then no problem. Raises UsageError for a card that is not in the catalogue, and
    HostUnavailable where the GPUs cannot be read.
    """
    try:
        profile, source = read(profile_path)
        elsewhere = _described(machine_file, gpu)
    except ProfileError as error:
        return Prepared(plan=None, problems=error.problems, exit_status=error.exit_status)
    facts, doubts = _facts(profile, source)
    doubts = (*unknown_values(profile, source), *doubts)
    if elsewhere is None:
        doubts = (*doubts, *missing_templates(profile, source), *untold(profile, source))
    if any(not problem.warning for problem in doubts):
        return Prepared(plan=None, problems=doubts, exit_status=ExitStatus.CONFIG)
    run_dir = run_dir or _default_run_dir(environment)
    machine, unsure = (elsewhere, ()) if elsewhere else _here(profile, run_dir, environment)
    device = _device(profile, machine, here=elsewhere is None)
    missing = _missing_hardware(profile, source, machine, device, here=elsewhere is None)
    if device is None or missing is not None:
        status = ExitStatus.UNAVAILABLE if elsewhere is None else ExitStatus.CONFIG
        lacking = unsure if missing is None else (missing, *unsure)
        return Prepared(plan=None, problems=lacking, exit_status=status)
    # Elsewhere another vLLM will run: the one here says nothing, nor does it matter if none is.
    installs, absent = ({}, ()) if elsewhere else find_installs(profile, source)
    executables = {
        stated: Executable(path=install.path, version=install.version)
        for stated, install in installs.items()
    }
    misused = build_doubts(profile, source, machine, device, installs)
    if elsewhere is None:
        absent = (*absent, *here_doubts(profile, source, facts, machine, installs, environment))
    plan = make_plan(
        as_held(profile, running) if running else profile,
        with_held_memory(machine, profile, running) if running else machine,
        device=device,
        facts=facts,
        executables=executables,
        run_dir=run_dir,
    )
    if running is not None:
        plan = with_held_launches(plan, profile, running)
    impatient = stop_time_caution(profile)
    unfit = unfit_routes(profile, plan.launches)
    judged = (*plan.report.problems, *unfit, *((impatient,) if impatient else ()))
    found = (*unsure, *doubts, *misused, *(placed(p, source) for p in judged), *absent)
    status = _STATUS[plan.report.verdict]
    if any(not problem.warning for problem in (*misused, *unfit)):
        status = ExitStatus.CONFIG
    if status != ExitStatus.CONFIG and any(not problem.warning for problem in absent):
        status = ExitStatus.UNAVAILABLE
    return Prepared(
        plan=_with_places(plan, found),
        problems=found,
        exit_status=status,
        facts=facts_there(profile, machine, facts, executables),
    )


def _described(machine_file: Path | None, gpu: str | None) -> Machine | None:
    from gpuserve.machine.machinefile import load_machine, parse_gpu_shorthand

    if machine_file is not None:
        return load_machine(machine_file)
    return None if gpu is None else parse_gpu_shorthand(gpu)


def _here(
    profile: Profile, run_dir: Path, environment: Mapping[str, str]
) -> tuple[Machine, tuple[Problem, ...]]:
    """One reading of this machine, where what an instance of the run directory holds is free."""
    from gpuserve.machine.gpus import Seen, see_gpus
    from gpuserve.machine.host import read_host
    from gpuserve.machine.ownmemory import with_own_memory_free
    from gpuserve.machine.surroundings import (
        disk_of,
        multi_process_service,
        shared_memory_bytes,
    )
    from gpuserve.machine.weights import hub_cache

    seen = Seen(gpus=()) if profile.device == "cpu" else see_gpus(environment)
    machine = Machine(
        gpus=seen.gpus,
        host=replace(read_host(), shm_bytes=shared_memory_bytes()),
        hidden_gpus=seen.hidden,
        driver=seen.driver,
        mps=bool(seen.gpus) and multi_process_service(),
        downloads=disk_of(hub_cache(environment)),
        logs=disk_of(RunDir(run_dir).path),
    )
    hint = "name GPUs by UUID there; `nvidia-smi -L` lists them"
    unsure = tuple(Problem(message=doubt, hint=hint, warning=True) for doubt in seen.doubts)
    return with_own_memory_free(machine, RunDir(run_dir)), unsure


def _device(profile: Profile, machine: Machine, *, here: bool) -> Literal["cuda", "cpu"] | None:
    """What the plan is for; None: the profile leaves it open, and this machine has no GPU."""
    if profile.device != "auto":
        return profile.device
    if not profile.models:
        # A router before other servers needs no GPU, but what they reserve is looked at.
        return "cuda" if machine.gpus and any(u.gpus for u in profile.upstreams) else "cpu"
    if machine.gpus:
        return "cuda"
    return None if here else "cpu"


def _missing_hardware(
    profile: Profile,
    source: Source,
    machine: Machine,
    device: Literal["cuda", "cpu"] | None,
    *,
    here: bool,
) -> Problem | None:
    if device is None or (device == "cuda" and not machine.gpus and here):
        lacks = "this machine has no NVIDIA GPU that the driver lists"
        if machine.hidden_gpus:
            lacks = "CUDA_VISIBLE_DEVICES hides every GPU of this machine"
        return source.problem(
            "engine.device",
            lacks,
            'write [engine] device = "cpu" to serve from the processor, or plan for other '
            'hardware: gpuserve check --gpu "NVIDIA L4:2"',
        )
    if device == "cpu" and profile.models and not machine.host.ram_total_bytes:
        return source.problem(
            "engine.device",
            "the profile is for a CPU box, and the hardware to plan for states no RAM",
            "give a machine file with ram_gib in [host]",
        )
    return None


def _facts(profile: Profile, source: Source) -> tuple[dict[str, ModelFacts], tuple[Problem, ...]]:
    """Return what is known about each model that can be one, and what is wrong with them."""
    facts = {}
    problems = []
    silence = ""
    for spec in profile.models:
        where = f"model[{spec.index}].model"
        try:
            known = read_facts(spec)
        except CheckpointError as error:
            problems.append(source.problem(where, str(error), error.hint))
            continue
        if known.architecture is None and not spec.model.startswith("/"):
            from gpuserve.machine.hubsettings import asked_facts

            # Asked once: where the first cannot be asked for, the others cannot either.
            known, silence = (known, silence) if silence else asked_facts(spec)
            known = replace(known, source=known.source or silence)
        facts[spec.name] = known
        if spec.model.startswith("/") and not known.here:
            message = f'"{spec.model}" holds no complete weights; vLLM will not load it'
            hint = "fetch what is missing; files that the index names count too"
            problems.append(source.problem(where, message, hint, warning=True))
    return facts, tuple(problems)


def _with_places(plan: Plan, problems: tuple[Problem, ...]) -> Plan:
    return replace(plan, report=replace(plan.report, problems=problems))


def _default_run_dir(environment: Mapping[str, str]) -> Path:
    from gpuserve.machine.control import default_run_dir

    return default_run_dir(dict(environment), os.getuid(), Path.home())
