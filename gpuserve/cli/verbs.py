"""What restart, stop, start and drain have in common: ask, then watch until it has happened."""

import argparse
import time
from collections.abc import Callable
from typing import Any

from gpuserve.cli.main import say
from gpuserve.cli.progress import Progress
from gpuserve.cli.target import need_instance, patient_status, run_dir_of
from gpuserve.cli.wait import refuse_failed
from gpuserve.errors import AnswerIsNo, ExitStatus
from gpuserve.machine.control import Control

LOOK_S = 0.2

# Given the model's status now and what was before: whether it has happened.
Done = Callable[[dict[str, Any], dict[str, Any]], bool]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all four share."""
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument(
        "--no-wait", action="store_true", help="return once it is asked for, not once it is done"
    )


def ask(args: argparse.Namespace, verb: str, done: Done) -> int:
    """Ask the controller for *verb*, wait until *done* says so; raises AnswerIsNo on Failed."""
    run_dir = run_dir_of(args)
    need_instance(run_dir)
    patient_status(run_dir)
    answer = Control(run_dir).command(args.model, verb)
    if args.no_wait:
        return ExitStatus.DONE
    name, before = answer["name"], answer["before"]
    begun_s = time.monotonic()
    with Progress() as progress:
        while True:
            status = patient_status(run_dir)
            model = next(m for m in status["models"] if m["name"] == name)
            progress.show({"models": [model]})
            if done(model, before):
                break
            if verb != "stop":
                refuse_failed({"models": [model]})
            _refuse_overtaken(model, verb)
            if model["state"] == "Unkillable":
                raise AnswerIsNo(f"{name} is Unkillable: {model['reason']}")
            time.sleep(LOOK_S)
    say(f"{name}: {model['state']} after {time.monotonic() - begun_s:.1f} s")
    return ExitStatus.DONE


def _refuse_overtaken(model: dict[str, Any], verb: str) -> None:
    """Raise AnswerIsNo when somebody has asked for the opposite meanwhile."""
    wants = {"stop": False, "start": True, "restart": True, "drain": True}[verb]
    if model["wanted"] != wants or (verb == "drain" and model["state"] != "Draining"):
        raise AnswerIsNo(f"{model['name']} is {model['state']}: another command came in between")
