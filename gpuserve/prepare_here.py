"""What a profile needs of this machine beside memory: executables, files, disks, the hub.

Part of what `prepare` does; every problem has its place in the profile.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from gpuserve.errors import HostUnavailable, Problem
from gpuserve.machine.vllm import VllmInstall, find_vllm, version_problem
from gpuserve.machine.weights import cached_snapshot, tokenizer_here
from gpuserve.memory.engine import ModelFacts
from gpuserve.preconditions.build import (
    awq_flag_problem,
    driver_problem,
    option_of,
    option_problems,
)
from gpuserve.preconditions.judge import host_problems
from gpuserve.profile.places import is_inline
from gpuserve.profile.source import Source
from gpuserve.profile.spec import ModelSpec, Profile
from gpuserve.readings import Machine

Installs = Mapping[str, VllmInstall]
Facts = Mapping[str, ModelFacts]


def find_installs(
    profile: Profile, source: Source
) -> tuple[dict[str, VllmInstall], tuple[Problem, ...]]:
    """Return what each model's `vllm` is, and what is wrong with it on this machine."""
    found: dict[str, VllmInstall] = {}
    problems: list[Problem] = []
    for spec in profile.models:
        if spec.vllm in found:
            continue
        try:
            install = find_vllm(spec.vllm)
        except HostUnavailable as error:
            found[spec.vllm] = VllmInstall(path=spec.vllm)
            problems.append(source.problem(_place(spec, source), error.message, error.hint))
            continue
        found[spec.vllm] = install
        problems += _install_doubts(profile, spec, install, source)
    return found, tuple(problems)


def build_doubts(
    profile: Profile,
    source: Source,
    machine: Machine,
    device: Literal["cuda", "cpu"],
    installs: Installs,
) -> tuple[Problem, ...]:
    """Return what the profile says that its vLLM does not take: options, variables, kernels.

    For hardware that is not here *installs* is empty, and only what every supported release
    refuses is told; the version is then the machine file's.
    """
    found: list[Problem] = []
    for spec in profile.models:
        install = installs.get(spec.vllm, VllmInstall(path=spec.vllm))
        version = install.version or machine.host.vllm_version
        found += option_problems(spec, install.options, version)
        slow = awq_flag_problem(spec, version) if device == "cuda" else None
        if slow is not None and version is not None:
            found.append(slow)
    return tuple(placed(problem, source) for problem in found)


def here_doubts(
    profile: Profile,
    source: Source,
    facts: Facts,
    machine: Machine,
    installs: Installs,
    environment: Mapping[str, str],
) -> tuple[Problem, ...]:
    """Return what this machine lacks for *profile*, beside GPUs and executables."""
    found = [placed(problem, source) for problem in host_problems(profile, facts, machine)]
    found += _drivers(profile, source, machine, installs)
    found += _tokenizers(profile, source, facts, installs)
    found += _withheld(profile, source, facts, environment)
    return tuple(found)


def untold(profile: Profile, source: Source) -> Iterator[Problem]:
    """Whoever cannot be told when it matters: a warning now, because models run without it."""
    for spec in profile.on_event:
        where = f"on_event[{spec.index}]"
        if spec.command is not None and shutil.which(spec.command[0]) is None:
            message = f"cannot execute {spec.command[0]}"
            hint = "give a program on PATH or its path, and make it executable"
            yield source.problem(f"{where}.command", message, hint, warning=True)
        token = spec.bearer_token_file
        if token is not None and not os.access(token, os.R_OK):
            message = f"cannot read {token}"
            yield source.problem(f"{where}.bearer_token_file", message, warning=True)


def missing_templates(profile: Profile, source: Source) -> Iterator[Problem]:
    """Yield a problem for each chat template that is neither a text nor a file here."""
    for spec in profile.models:
        template = spec.chat_template
        # os.path: a text too long to be a file name is no file, and no error.
        if template is None or is_inline(template) or os.path.isfile(template):  # noqa: PTH113
            continue
        lacks = "is a directory" if os.path.isdir(template) else "does not exist"  # noqa: PTH112
        yield source.problem(
            f"model[{spec.index}].chat_template",
            f"the chat template {template[:200]} {lacks}",
            "a path is relative to the profile; a template may also stand here as text",
        )


def placed(problem: Problem, source: Source) -> Problem:
    """Return *problem* with its file and line, where it has a place in the profile."""
    if problem.file is not None or not problem.where:
        return problem
    return source.problem(problem.where, problem.message, problem.hint, warning=problem.warning)


def _install_doubts(
    profile: Profile, spec: ModelSpec, install: VllmInstall, source: Source
) -> Iterator[Problem]:
    doubt = version_problem(install)
    if doubt is not None:
        yield placed(replace(doubt, where=_place(spec, source)), source)
    if install.supports_uds is not False:
        return
    for other in profile.models:
        if other.vllm == spec.vllm and other.port is None:
            yield source.problem(
                f"model[{other.index}].port",
                f"missing: {install.path} cannot listen on a Unix socket (no --uds)",
                "give the model a port of its own: port = 9001",
            )


def _drivers(
    profile: Profile, source: Source, machine: Machine, installs: Installs
) -> Iterator[Problem]:
    seen = set()
    device = "cuda" if machine.gpus and profile.device != "cpu" else "cpu"
    for spec in profile.models:
        install = installs.get(spec.vllm)
        if install is None or install.path in seen:
            continue
        seen.add(install.path)
        where = _place(spec, source)
        problem = driver_problem(where, install.path, install.cuda, machine.driver, device)
        if problem is not None:
            yield placed(problem, source)


def _tokenizers(
    profile: Profile, source: Source, facts: Facts, installs: Installs
) -> Iterator[Problem]:
    for spec in profile.models:
        folder = _tokenizer_folder(spec, facts[spec.name])
        if folder is None or tokenizer_here(folder):
            continue
        if any(option_of(word) == "--skip-tokenizer-init" for word in spec.extra_args):
            continue
        install = installs.get(spec.vllm)
        key = "tokenizer" if spec.tokenizer is not None else "model"
        yield source.problem(
            f"model[{spec.index}].{key}",
            f'"{folder}" holds no tokenizer; vLLM does not start without one',
            "fetch the rest of the repository, or name another directory or hub id with "
            "`tokenizer`",
            # Another program than vLLM may do without.
            warning=install is None or install.version is None,
        )


def _tokenizer_folder(spec: ModelSpec, facts: ModelFacts) -> Path | None:
    """Return where the tokenizer must be, None where it is still to be fetched."""
    name = spec.tokenizer or spec.model
    if name.startswith("/"):
        folder = Path(name)
        return folder if folder.is_dir() else None
    if spec.tokenizer is not None or not facts.here:
        return None
    return cached_snapshot(spec.model, spec.revision)


def _withheld(
    profile: Profile, source: Source, facts: Facts, environment: Mapping[str, str]
) -> Iterator[Problem]:
    """Yield the models that must be fetched and that the hub will not give us."""
    missing = [
        spec
        for spec in profile.models
        if not facts[spec.name].here
        and not spec.model.startswith("/")
        and facts[spec.name].source.startswith("catalogue")
    ]
    if not missing:
        return
    from gpuserve.machine.hubsettings import HubRefused, HubSilent, ask_access

    for spec in missing:
        try:
            ask_access(spec, environment)
        except HubRefused as refusal:
            yield source.problem(
                f"model[{spec.index}].model",
                f'"{spec.model}" cannot be fetched: {refusal}',
                refusal.hint,
            )
        except HubSilent:
            return  # where the first cannot be asked for, the others cannot either


def _place(spec: ModelSpec, source: Source) -> str:
    own = f"model[{spec.index}].vllm"
    return own if own in source.lines else "engine.vllm"
