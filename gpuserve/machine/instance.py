"""instance.json: which keeper runs in a run directory, and what it serves.

Written by `up` just before it becomes the keeper, so pid and start time are the keeper's.
A file whose process is gone, or is another one with the same pid, means that nothing runs.
"""

import json
import os
from dataclasses import asdict, dataclass

from gpuserve.machine.processes import same
from gpuserve.rundir import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One instance: its keeper, its profile, its endpoint."""

    keeper_pid: int
    keeper_start_ticks: int
    profile: str
    url: str
    started_unix_s: float
    version: str

    @property
    def identity(self) -> str:
        """Tell this run of the keeper from any other on this boot."""
        return f"{self.keeper_pid}:{self.keeper_start_ticks}"

    @property
    def alive(self) -> bool:
        """Whether that keeper still runs."""
        return same(self.keeper_pid, self.keeper_start_ticks)


def write(run_dir: RunDir, instance: Instance) -> None:
    """Replace instance.json."""
    draft = run_dir.instance.with_suffix(".new")
    draft.write_text(json.dumps(asdict(instance)), encoding="utf-8")
    os.replace(draft, run_dir.instance)  # noqa: PTH105 - the same call, named after what it does


def read(run_dir: RunDir) -> Instance | None:
    """Return the instance that the run directory names, alive or not, or None.

    Raises PermissionError when there is one that this user may not read.
    """
    try:
        found = json.loads(run_dir.instance.read_text(encoding="utf-8"))
        return Instance(**found)
    except PermissionError:
        raise
    except (OSError, ValueError, TypeError):
        return None


def running(run_dir: RunDir) -> Instance | None:
    """Return the instance that runs in the run directory, or None; raises PermissionError."""
    instance = read(run_dir)
    return instance if instance is not None and instance.alive else None
