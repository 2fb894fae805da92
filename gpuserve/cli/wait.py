"""Wait until every model that should run is ready. Exit 1 at once if one has Failed."""

import argparse
import time
from typing import Any

from gpuserve.cli.main import say
from gpuserve.cli.progress import Progress
from gpuserve.cli.status import all_ready
from gpuserve.cli.target import need_instance, run_dir_of
from gpuserve.errors import AnswerIsNo, ExitStatus, NotRunning
from gpuserve.machine.control import Control, ControllerSilent
from gpuserve.rundir import RunDir

# How long there may be no instance yet: `up` checks the profile before there is one.
NOT_YET_S = 15.0
LOOK_S = 0.2


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--timeout", metavar="S", type=float, help="give up after S seconds, with exit status 1"
    )


def run(args: argparse.Namespace) -> int:
    """Wait; return 0 once ready, 1 on Failed or after the timeout."""
    run_dir = run_dir_of(args)
    begun_s = time.monotonic()
    deadline_s = begun_s + args.timeout if args.timeout is not None else float("inf")
    seen = False
    with Progress() as progress:
        while True:
            status = _look(run_dir, seen=seen, since_s=time.monotonic() - begun_s)
            if status is not None:
                seen = True
                progress.show(status)
                refuse_failed(status)
                if all_ready(status):
                    break
            if time.monotonic() >= deadline_s:
                raise AnswerIsNo(
                    f"not ready after {args.timeout:g} s", hint="`gpuserve status` says why"
                )
            time.sleep(LOOK_S)
    say(f"ready after {time.monotonic() - begun_s:.0f} s")
    return ExitStatus.DONE


def _look(run_dir: RunDir, *, seen: bool, since_s: float) -> dict[str, Any] | None:
    """Return the status, or None if there is none yet; raises NotRunning if it is gone."""
    try:
        return Control(run_dir).status()
    except ControllerSilent:
        try:
            need_instance(run_dir)
        except NotRunning:
            if seen or since_s > NOT_YET_S:
                raise
        return None


def refuse_failed(status: dict[str, Any]) -> None:
    """Raise AnswerIsNo, with the reason, if a model of *status* has Failed."""
    for model in status["models"]:
        if model["state"] == "Failed":
            raise AnswerIsNo(
                f"{model['name']} has Failed: {model['reason']}",
                hint=f"`gpuserve logs {model['name']}` shows the engine's own output; "
                f"`gpuserve start {model['name']}` tries again",
            )
