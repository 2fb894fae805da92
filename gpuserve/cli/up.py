"""Start the models of a profile and serve them behind one endpoint, until SIGTERM or SIGINT.

The profile is checked first. In the foreground this process becomes the keeper; `--detach`
returns once the keeper runs, and `gpuserve wait` waits for the models.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from gpuserve.cli.main import say, say_problem
from gpuserve.cli.target import run_dir_of
from gpuserve.errors import ExitStatus, GpuserveError, HostUnavailable
from gpuserve.plan import Plan
from gpuserve.rundir import RunDir

DETACH_S = 60.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("profile", metavar="PROFILE", type=Path)
    parser.add_argument(
        "--detach", action="store_true", help="return once the keeper runs, in the background"
    )


def run(args: argparse.Namespace) -> int:
    """Check the profile, then become the keeper; returns only if that is refused or detached."""
    from gpuserve.daemon.directory import claim, refuse_if_running
    from gpuserve.daemon.start import become_keeper, prepare_directory, url_of
    from gpuserve.prepare import prepare

    run_dir = run_dir_of(args)
    refuse_if_running(run_dir)
    prepared = prepare(args.profile, run_dir=run_dir.path, environment=os.environ)
    for problem in prepared.problems:
        say_problem(problem)
    if prepared.plan is None or prepared.exit_status not in (
        ExitStatus.DONE,
        ExitStatus.TEMPFAIL,
    ):
        say(f"hint: `gpuserve check {args.profile}` shows the arithmetic")
        return prepared.exit_status
    if prepared.exit_status == ExitStatus.TEMPFAIL:
        say("others hold the memory now: the models will wait for it in the queue")
    claim(run_dir)
    if args.detach:
        return _detach(run_dir, prepared.plan)
    prepare_directory(run_dir, prepared.plan)
    say(f"serving on {url_of(prepared.plan)}; models load one after another")
    become_keeper(run_dir)
    raise AssertionError("exec returned")  # for the reader of types; it does not


def _detach(run_dir: RunDir, plan: Plan) -> int:
    from gpuserve.daemon.start import url_of
    from gpuserve.machine.control import Control, ControllerSilent

    child = os.fork()
    if child == 0:
        _become_detached_keeper(run_dir, plan)
    deadline = time.monotonic() + DETACH_S
    while True:
        ended, how = os.waitpid(child, os.WNOHANG)
        if ended:
            return _ended_early(run_dir, os.waitstatus_to_exitcode(how))
        try:
            Control(run_dir).status()
        except ControllerSilent:
            if time.monotonic() > deadline:
                raise HostUnavailable(
                    f"the controller did not come up within {DETACH_S:.0f} s",
                    hint=f"{run_dir.logs}/controller.log and keeper.log say more; "
                    "`gpuserve down` ends what runs",
                ) from None
            time.sleep(0.05)
            continue
        say(f"serving on {url_of(plan)}; `gpuserve wait` waits for the models")
        return ExitStatus.DONE


def _ended_early(run_dir: RunDir, status: int) -> int:
    if status in set(ExitStatus) and status != ExitStatus.DONE:
        return status  # it has said why
    raise HostUnavailable(
        f"the keeper ended with status {status}", hint=f"{run_dir.logs}/gpuserve.log says more"
    )


def _become_detached_keeper(run_dir: RunDir, plan: Plan) -> NoReturn:
    from gpuserve.daemon.start import become_keeper, prepare_directory

    status: int = ExitStatus.SOFTWARE
    try:
        os.setsid()
        prepare_directory(run_dir, plan)
        log = os.open(run_dir.logs / "gpuserve.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        sys.stdout.flush()
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        become_keeper(run_dir)
    except GpuserveError as error:
        say(f"error: {error.message}")
        if error.hint:
            say(f"hint: {error.hint}")
        status = error.exit_status
    except OSError as error:
        say(f"error: cannot start the keeper: {error}")
    finally:
        os._exit(status)
