"""instance.json: which keeper runs in a run directory, and what it serves.

Written by `up` just before it becomes the keeper, so pid and start time are the keeper's.
A file whose process is gone, or is another one with the same pid, means that nothing runs.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from gpuserve.machine.processes import boot_id, command_of, same
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
    boot: str = ""  # the boot of which pid and start time are
    # Children that the process had before it became the keeper: a shell's background jobs.
    children: tuple[int, ...] = ()
    state_dir: str = ""  # where what outlives the instance is kept; "": in the run directory

    @property
    def identity(self) -> str:
        """Tell this run of the keeper from any other."""
        return f"{self.boot}:{self.keeper_pid}:{self.keeper_start_ticks}"

    @property
    def alive(self) -> bool:
        """Whether that keeper still runs.

        Boots repeat pids and start times, so another boot's pid must at least be one of ours. It
        may well be: in a systemd-nspawn container a service that has a /proc of its own
        (ProtectProc) reads another boot id than a shell does.
        """
        if not same(self.keeper_pid, self.keeper_start_ticks):
            return False
        return self.boot in ("", boot_id()) or b"gpuserve" in command_of(self.keeper_pid)


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
        return Instance(**{**found, "children": tuple(found.get("children", ()))})
    except PermissionError:
        raise
    except (OSError, ValueError, TypeError):
        return None


def running(run_dir: RunDir) -> Instance | None:
    """Return the instance that runs in the run directory, or None; raises PermissionError."""
    instance = read(run_dir)
    return instance if instance is not None and instance.alive else None


@contextmanager
def locked(run_dir: RunDir) -> Iterator[None]:
    """Hold the run directory's lock, so that of two at once one sees what the other did."""
    while True:
        with run_dir.lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with suppress(OSError):
                # Whoever held it before may have removed it: then it locks nothing any more.
                if run_dir.lock.stat().st_ino == os.fstat(file.fileno()).st_ino:
                    yield
                    return


def remove_leftovers(run_dir: RunDir) -> None:
    """Remove what means that an instance runs; logs and what is remembered stay.

    Hold the lock. Raises OSError.
    """
    for directory in (
        *(run_dir.path / "launches", run_dir.path / "engines"),
        *(run_dir.sockets / "engines", run_dir.sockets / "routers"),
    ):
        for path in directory.iterdir() if directory.is_dir() else ():
            path.unlink(missing_ok=True)
    for path in (
        *(run_dir.keeper_socket, run_dir.control_socket, run_dir.heartbeat),
        *(
            run_dir.routing,
            run_dir.plan,
            run_dir.previous,
            run_dir.keeper_conf,
            run_dir.path / "keeper.pid",
        ),
        *(run_dir.instance, run_dir.families),
    ):
        path.unlink(missing_ok=True)
    if run_dir.sockets != run_dir.path:
        shutil.rmtree(run_dir.sockets, ignore_errors=True)


def release(run_dir: RunDir, identity: str) -> None:
    """Remove every trace of the instance *identity*, unless another has taken its place."""
    with suppress(OSError), locked(run_dir):
        found = read(run_dir)
        if found is not None and found.identity == identity:
            remove_leftovers(run_dir)
            run_dir.lock.unlink(missing_ok=True)
