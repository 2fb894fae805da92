"""Put a changed profile in force while everything else serves on.

The profile is checked first, with what this instance holds counted as free; one that is refused
changes nothing. Engines that it does not change are not touched. Changed ones drain and are
replaced one after the other; one that does not start with its new settings gets its old ones back.
"""

import argparse
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from gpuserve import __version__
from gpuserve.cli.main import say, say_problem
from gpuserve.cli.progress import Progress
from gpuserve.cli.target import need_instance, patient_status, run_dir_of
from gpuserve.errors import AnswerIsNo, ExitStatus, Problem
from gpuserve.machine.control import Control, ControllerSilent
from gpuserve.machine.keeper import Keeper, KeeperGone, KeeperRefused, KeeperStopping
from gpuserve.rundir import RunDir

LOOK_S = 0.2
# One that imports on a box that loads models.
NEW_CONTROLLER_S = 60.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "profile",
        metavar="PROFILE",
        type=Path,
        nargs="?",
        help="the new profile (default: the file that is in force)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check it and show what would change; change nothing"
    )
    parser.add_argument(
        "--upgrade",
        action="store_true",
        help="first replace gpuserve's own processes, controller and routers, by those of the "
        "version that is installed now; engines serve on. Done by itself where versions differ",
    )
    parser.add_argument("--json", action="store_true", help="print the differences as JSON")
    parser.add_argument(
        "--no-wait", action="store_true", help="return once it is accepted, not once it is done"
    )


def run(args: argparse.Namespace) -> int:
    """Reload; the exit status is that of `check` where the profile is refused."""
    run_dir = run_dir_of(args)
    need_instance(run_dir)
    if not args.dry_run:
        upgrade(run_dir, wanted=args.upgrade)
    # Not resolved: what stands beside a symbolic link is meant.
    profile = Path(os.path.abspath(args.profile)) if args.profile else None  # noqa: PTH100
    answer = Control(run_dir).reload(profile, dry_run=args.dry_run)
    for row in answer["problems"]:
        say_problem(Problem(**row))
    if args.json:
        print(json.dumps(answer))
    elif answer["diff"] is not None:
        print("\n".join(lines(answer["diff"])))
    if answer["exit_status"] != ExitStatus.DONE:
        say("nothing was changed")
        return int(answer["exit_status"])
    if args.dry_run or args.no_wait:
        return ExitStatus.DONE
    return _wait(run_dir, int(answer["number"]))


def upgrade(run_dir: RunDir, *, wanted: bool) -> None:
    """Replace controller, watch and routers where they are of another version, or *wanted*.

    A controller that does not answer is replaced too. Engines are adopted by the new one.
    """
    try:
        status = patient_status(run_dir)
    except ControllerSilent:
        status = None
    if status is not None and status["version"] == __version__ and not wanted:
        return
    say("replacing the controller and the routers; engines serve on")
    keeper = Keeper(run_dir.keeper_socket)
    for program in ("controller", "watch"):
        try:
            keeper.restart(program)
        except (KeeperGone, KeeperRefused, KeeperStopping) as error:
            raise AnswerIsNo(f"cannot replace the {program}: {error}") from error
    status = patient_status(run_dir, patience_s=NEW_CONTROLLER_S)
    if status["version"] != __version__:
        raise AnswerIsNo(
            f"the new controller is of version {status['version']}, this command of {__version__}",
            hint="the keeper starts what lies where it was started from itself; "
            "a full restart takes this version",
        )
    with suppress(AnswerIsNo):  # they are being replaced already
        Control(run_dir).replace_routers()


def lines(diff: dict[str, Any]) -> list[str]:
    """Return the differences for people, a line for each model and each part of the profile."""
    rows = [
        *(("+", name, "added") for name in diff["added"]),
        *(("-", name, "removed") for name in diff["removed"]),
        *(("~", row["name"], f"replaced: {'; '.join(row['what'])}") for row in diff["changed"]),
        *(("*", row["name"], "; ".join(row["what"])) for row in diff["service"]),
        *(
            ("=", row["name"], f"runs on; at its next start: {'; '.join(row['what'])}")
            for row in diff["pending"]
        ),
    ]
    later = {row["name"] for row in diff["pending"]}
    rows += [("=", name, "not touched") for name in diff["untouched"] if name not in later]
    rows += [("!", "full restart", line) for line in diff["restart"]]
    width = max((len(name) for _, name, _ in rows), default=0)
    return [f"{sign} {name:<{width}}  {what}" for sign, name, what in rows]


def _wait(run_dir: RunDir, number: int) -> int:
    """Wait until the reload has ended; raises AnswerIsNo where a model is not as wanted."""
    begun_s = time.monotonic()
    with Progress() as progress:
        while True:
            status = patient_status(run_dir)
            reload = status["reload"]
            if reload is None or reload["number"] != number:
                raise AnswerIsNo(
                    "the controller was replaced during the reload; the new one goes on with it",
                    hint="`gpuserve wait` waits for the models, `gpuserve events` tells the rest",
                )
            touched = [m for m in status["models"] if m["name"] in reload["models"]]
            progress.show({"models": touched})
            if reload["state"] != "applying":
                break
            time.sleep(LOOK_S)
    for name, words in reload["models"].items():
        say(f"{name}: {words}")
    if reload["state"] == "failed":
        raise AnswerIsNo("not every model is as the profile wants it", hint="see above")
    say(f"in force after {time.monotonic() - begun_s:.1f} s")
    return ExitStatus.DONE
