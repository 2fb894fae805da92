"""Drain and stop everything. `--now` does not drain."""

import argparse
import os
import signal
import time
from contextlib import suppress
from typing import Any

from gpuserve import jsonvalues
from gpuserve.cli.main import say
from gpuserve.cli.progress import Progress
from gpuserve.cli.target import need_instance, run_dir_of
from gpuserve.errors import AnswerIsNo, ExitStatus
from gpuserve.keeperconf import STOP_MARGIN_S
from gpuserve.machine.control import Control, ControllerSilent
from gpuserve.machine.instance import Instance
from gpuserve.plan import Plan
from gpuserve.rundir import RunDir

LOOK_S = 0.1


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--now", action="store_true", help="end the engines at once")
    parser.add_argument(
        "--no-wait", action="store_true", help="return once it is asked for, not once it is done"
    )


def run(args: argparse.Namespace) -> int:
    """End the instance; return once nothing of it is left."""
    run_dir = run_dir_of(args)
    found = need_instance(run_dir)
    limit_s = _limit_s(run_dir)
    begun_s = time.monotonic()
    try:
        Control(run_dir).down(hurry=args.now)
    except ControllerSilent:
        say("the controller does not answer: asking the keeper to end")
        _terminate(found)
    if args.no_wait:
        return ExitStatus.DONE
    with Progress() as progress:
        while found.alive:
            with suppress(ControllerSilent):
                progress.show(_status(run_dir))
            if time.monotonic() - begun_s > limit_s:
                raise AnswerIsNo(
                    f"still stopping after {limit_s:.0f} s",
                    hint="`gpuserve status` shows what does not end; `gpuserve down --now` hurries",
                )
            time.sleep(LOOK_S)
    say(f"stopped after {time.monotonic() - begun_s:.1f} s")
    return ExitStatus.DONE


def _status(run_dir: RunDir) -> dict[str, Any]:
    return Control(run_dir).status(timeout_s=1.0)


def _terminate(instance: Instance) -> None:
    if instance.alive:
        with suppress(ProcessLookupError):
            os.kill(instance.keeper_pid, signal.SIGTERM)


def _limit_s(run_dir: RunDir) -> float:
    """Return how long a stop may take by the profile, and then some."""
    try:
        plan = jsonvalues.loads(Plan, run_dir.plan.read_bytes())
    except (OSError, ValueError):
        return 120.0
    patience = [launch.patience for launch in plan.launches]
    longest_s = max((p.drain_timeout_s + p.stop_timeout_s for p in patience), default=0.0)
    return longest_s + 2 * STOP_MARGIN_S
