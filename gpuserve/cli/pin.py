"""Write the measured KV cache of running models into their profile: the next start is exact.

A pinned engine takes exactly what is written and measures nothing, so it can't be charged for a
neighbour. The pin counts while the release of vLLM, the cards and the model's settings are the
same, and is dropped with a warning when one of them changes. Comments stay. `gpuserve reload`
or the next start applies it; a pinned model is then started once more.

Exit status: 0 written, 1 a model is not ready or does not say how large its cache is, 2 usage,
3 not running, 69 the profile cannot be written.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpuserve import jsonvalues
from gpuserve.cli.main import say
from gpuserve.cli.target import need_instance, patient_status, run_dir_of
from gpuserve.errors import ExitStatus, HostUnavailable, UsageError
from gpuserve.machine.checkpoint import CheckpointError, read_facts
from gpuserve.machine.files import replace_file
from gpuserve.memory.engine import ModelFacts
from gpuserve.pins import Measured, pin_of
from gpuserve.plan import Launch, Plan
from gpuserve.profile.edit import with_pin
from gpuserve.profile.load import load_text
from gpuserve.profile.spec import ModelSpec, Pin
from gpuserve.units import gib


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what `pin` takes."""
    parser.add_argument("models", metavar="MODEL", nargs="*", help="default: every model")
    parser.add_argument("--remove", action="store_true", help="remove the pins instead")
    parser.add_argument("--dry-run", action="store_true", help="write nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Write the pins; exit status 1 where one of the models could not be measured."""
    run_dir = run_dir_of(args)
    need_instance(run_dir)
    plan = jsonvalues.loads(Plan, run_dir.plan.read_bytes())
    launches = _chosen(plan, args.models)
    status = {model["name"]: model for model in patient_status(run_dir)["models"]}
    pins: dict[str, Pin | None] = {}
    failed = False
    for launch in launches:
        if args.remove:
            pins[launch.name] = None
            continue
        pin, why = _measured(plan, launch, status[launch.name])
        if pin is None:
            say(f"error: {launch.name}: {why}")
            failed = True
        else:
            pins[launch.name] = pin
    if not args.dry_run and pins:
        _write(Path(plan.profile.path), pins)
    _tell(plan.profile.path, pins, args)
    return ExitStatus.NO if failed else ExitStatus.DONE


def _chosen(plan: Plan, names: Sequence[str]) -> list[Launch]:
    known = {launch.name: launch for launch in plan.launches}
    for name in names:
        if name not in known:
            raise UsageError(f'no model "{name}"', hint=f"models: {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)] or list(plan.launches)


def _measured(plan: Plan, launch: Launch, status: dict[str, Any]) -> tuple[Pin | None, str]:
    """Return the pin of one engine, or why there is none."""
    if not launch.gpus:
        return None, "it has no GPU; on a CPU box the cache is stated in whole GiB as it is"
    if not status["ready"]:
        return None, f"it is {status['state']}; only what serves can be measured"
    if launch.vllm_version is None:
        return None, "the release of its vLLM is not known, and a pin is bound to one"
    spec = next(m for m in plan.profile.models if m.name == launch.name)
    cards = sorted({s.gpu.name for s in plan.report.gpus if s.gpu.index in launch.gpus})
    actual = status["memory"]["actual"]
    pin = pin_of(
        spec,
        _facts(spec),
        launch.predicted,
        Measured(
            kv_cache_bytes=actual.get("kv_cache_bytes"),
            kv_cache_tokens=actual.get("kv_cache_tokens"),
        ),
        version=launch.vllm_version,
        cards=cards,
    )
    return pin, "its log and its metrics do not say how large its KV cache is"


def _facts(spec: ModelSpec) -> ModelFacts:
    try:
        return read_facts(spec)
    except CheckpointError as error:
        raise HostUnavailable(str(error), hint=error.hint) from error


def _write(path: Path, pins: dict[str, Pin | None]) -> None:
    """Put *pins* into the profile; it is read anew, so that what was edited meanwhile stays."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        load_text(text, path=str(path))  # raises ProfileError where it was broken meanwhile
        for name, pin in pins.items():
            text = with_pin(text, name, pin)
        replace_file(path, text.encode())
    except OSError as error:
        raise HostUnavailable(
            f"{path} cannot be rewritten: {error.strerror}", hint="`--dry-run` shows the pins"
        ) from error
    except KeyError as error:
        raise UsageError(
            f"{path} has no model {error} any more", hint="reload it first, then measure"
        ) from error


def _tell(path: str, pins: dict[str, Pin | None], args: argparse.Namespace) -> None:
    if args.json:
        found = {name: None if pin is None else asdict(pin) for name, pin in pins.items()}
        print(json.dumps({"profile": path, "written": not args.dry_run, "pins": found}))
        return
    for name, pin in pins.items():
        if pin is None:
            print(f"{name}: pin removed")
        else:
            size = pin.kv_cache_memory_bytes
            print(f"{name}: kv_cache_memory_bytes = {size} ({gib(size)}), vLLM {pin.vllm}")
    if pins and not args.dry_run:
        say(f"wrote {path}; it counts from the next start, or after `gpuserve reload`")
