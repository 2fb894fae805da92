"""Which instance a command means, and what it says when there is none."""

import argparse
import os
import time
from pathlib import Path
from typing import Any

from gpuserve.errors import NotRunning
from gpuserve.machine.control import Control, ControllerSilent, default_run_dir, find_instance
from gpuserve.machine.instance import Instance
from gpuserve.rundir import RunDir

# A controller that was killed is back, with its engines adopted, within about two seconds.
CONTROLLER_BACK_S = 8.0


def run_dir_of(args: argparse.Namespace) -> RunDir:
    """Return the run directory of `--run-dir`, or the default one."""
    given: Path | None = args.run_dir
    path = given or default_run_dir(dict(os.environ), os.getuid(), Path.home())
    return RunDir(Path(os.path.abspath(path)))  # noqa: PTH100 - Path.resolve would follow links


def need_instance(run_dir: RunDir) -> Instance:
    """Return the running instance; raises NotRunning or HostUnavailable."""
    found = find_instance(run_dir)
    if found is None:
        raise NotRunning(
            f"nothing runs in {run_dir.path}",
            hint="start it with `gpuserve up PROFILE`, or name its --run-dir",
        )
    return found


def patient_status(run_dir: RunDir, patience_s: float = CONTROLLER_BACK_S) -> dict[str, Any]:
    """Return the status, waiting out a controller that is being replaced.

    Raises NotRunning when the instance ends meanwhile, ControllerSilent after *patience_s*.
    """
    control = Control(run_dir)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return control.status()
        except ControllerSilent:
            need_instance(run_dir)
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.2)
