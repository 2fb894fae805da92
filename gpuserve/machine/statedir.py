"""Where is kept what outlives an instance and a boot: what the operator stopped, and the events.

A run directory lies in memory as a rule (/run), and systemd removes its own with the unit.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from gpuserve.machine import instance
from gpuserve.rundir import RunDir

STATE = "state.json"
EVENTS = "events.jsonl"


def usual(run_dir: Path, environ: Mapping[str, str], home: Path) -> Path:
    """Return the state directory that belongs to *run_dir*.

    systemd's $STATE_DIRECTORY; for /run/NAME /var/lib/NAME, as systemd's StateDirectory; for
    one below $XDG_RUNTIME_DIR the user's state directory; for any other the run directory itself.
    """
    stated = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if stated:
        return Path(stated)
    if run_dir.parent == Path("/run"):
        return Path("/var/lib") / run_dir.name
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime and run_dir.parent == Path(runtime):
        base = environ.get("XDG_STATE_HOME")
        return (Path(base) if base else home / ".local" / "state") / run_dir.name
    return run_dir


def make(run_dir: RunDir) -> Path:
    """Return the state directory for a new instance, made if need be.

    Where it cannot be made or written, the run directory has to do.
    """
    path = usual(run_dir.path, os.environ, Path.home())
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return run_dir.path
    return path if os.access(path, os.W_OK | os.X_OK) else run_dir.path


def find(run_dir: RunDir) -> Path:
    """Return the state directory of the instance that runs in *run_dir*, or ran there last.

    Raises PermissionError where this user may not look.
    """
    found = instance.read(run_dir)
    if found is not None and found.state_dir:
        return Path(found.state_dir)
    path = usual(run_dir.path, os.environ, Path.home())
    return path if (path / EVENTS).exists() else run_dir.path
