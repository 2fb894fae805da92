"""Reads what `plan` needs: the hardware to plan for, and what is known of each model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gpuserve.errors import UsageError
from gpuserve.machine.checkpoint import CheckpointError, catalogue_facts, read_facts
from gpuserve.profile.spec import ModelSpec
from gpuserve.readings import Machine
from gpuserve.sizing.question import Ask, Known


def machine_to_plan_for(
    machine_file: Path | None, gpu: str | None, environment: Mapping[str, str]
) -> Machine | None:
    """Return the hardware that is named, else this machine's, None where it has no GPU.

    Raises UsageError for an unknown card, ProfileError for a wrong machine file, and
    HostUnavailable where the GPUs here cannot be read.
    """
    from gpuserve.machine.machinefile import load_machine, parse_gpu_shorthand

    if machine_file is not None:
        return load_machine(machine_file)
    if gpu is not None:
        return parse_gpu_shorthand(gpu)
    from gpuserve.machine.gpus import see_gpus
    from gpuserve.machine.host import read_host

    gpus = see_gpus(environment).gpus
    return Machine(gpus=gpus, host=read_host()) if gpus else None


def known_models(asks: Sequence[Ask]) -> dict[str, Known]:
    """Return what is known of each model that *asks* names, by that name.

    From its files, the catalogue, or the hub. Raises UsageError for one of which nothing is.
    """
    return {ask.model: _known(ask.model) for ask in asks}


def located(model: str) -> str:
    """Return the absolute path of a directory, and a hub id as it is.

    A directory is one that is there, or that begins as no hub id does.
    """
    directory = Path(model)
    if directory.is_dir() or model.startswith((".", "~")):
        return str(directory.expanduser().absolute())
    return model


def _known(model: str) -> Known:
    spec = ModelSpec(index=0, name="model", model=model)
    try:
        facts = read_facts(spec)
    except CheckpointError as error:
        raise UsageError(str(error), hint=error.hint) from error
    reason = ""
    if facts.architecture is None and not model.startswith("/"):
        from gpuserve.machine.hubsettings import asked_facts

        facts, reason = asked_facts(spec)
    if facts.architecture is None:
        raise UsageError(
            f'nothing is known of "{model}"' + (f": {reason}" if reason else ""),
            hint="name a directory, or a hub id that is in the catalogue or on the hub",
        )
    if model.startswith("/"):
        return Known(facts=facts)
    packed = catalogue_facts(f"{model}-AWQ", None)
    return Known(
        facts=facts,
        packed=(f"{model}-AWQ", packed) if packed.architecture is not None else None,
    )
