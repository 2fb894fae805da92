"""Print an engine's own output. It works as well when the instance is gone."""

import argparse
import os
import sys
import time
from collections import deque
from pathlib import Path

from gpuserve.cli.target import run_dir_of
from gpuserve.errors import ExitStatus, NotRunning, UsageError
from gpuserve.machine.control import Control, ControllerSilent, find_instance
from gpuserve.rundir import RunDir

LOOK_S = 0.2


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as more is written")
    parser.add_argument(
        "-n", "--lines", metavar="N", type=int, default=200, help="the last N lines (default 200)"
    )


def run(args: argparse.Namespace) -> int:
    """Print the last lines; with `-f` go on until interrupted or the instance ends."""
    if args.lines < 0:
        raise UsageError("-n wants a number of lines, 0 or more")
    run_dir = run_dir_of(args)
    path = _log_of(run_dir, args.model)
    with path.open("rb") as file:
        last = deque(file, maxlen=args.lines)
        offset = file.tell()
    sys.stdout.buffer.writelines(last)
    sys.stdout.buffer.flush()
    if args.follow:
        _follow(run_dir, path, offset)
    return ExitStatus.DONE


def _log_of(run_dir: RunDir, model: str) -> Path:
    """Return the log of *model*, a name or an alias; raises UsageError with the known names."""
    name = _canonical(run_dir, model)
    path = run_dir.engine_log(name)
    known = sorted(p.name.removesuffix(".log") for p in path.parent.glob("*.log"))
    if name not in known and find_instance(run_dir) is None and not known:
        raise NotRunning(f"nothing runs in {run_dir.path}, and nothing has left a log there")
    if name not in known:
        raise UsageError(
            f'there is no log of "{model}" in {run_dir.logs}',
            hint=f"logs: {', '.join(known)}" if known else "no engine has been started there",
        )
    return path


def _canonical(run_dir: RunDir, model: str) -> str:
    if find_instance(run_dir) is not None:
        try:
            for row in Control(run_dir).status()["models"]:
                if model in (row["name"], *row["aliases"]):
                    return str(row["name"])
        except ControllerSilent:
            pass
    return model


def _follow(run_dir: RunDir, path: Path, offset: int) -> None:
    """Print what is appended to *path*, over rotations, until the instance ends."""
    file = path.open("rb")
    file.seek(offset)
    try:
        while True:
            data = file.read()
            if data:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
                continue
            if path.exists() and path.stat().st_ino != _inode(file.fileno()):
                file.close()
                file = path.open("rb")
                continue
            if find_instance(run_dir) is None:
                return
            time.sleep(LOOK_S)
    finally:
        file.close()


def _inode(descriptor: int) -> int:
    return os.fstat(descriptor).st_ino
