"""engines/NAME.json: what the shim knows about the engine it runs, or ran, for the controller.

Written by the shim alone, replaced atomically, so a reader sees one moment. `launch_id` is
that of launches/NAME.json: a file from an earlier run is told by it.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gpuserve.machine.families import Output
from gpuserve.machine.files import overwrite_file, replace_file
from gpuserve.machine.processes import boot_id
from gpuserve.rundir import RunDir


@dataclass(slots=True, kw_only=True)
class EngineStatus:
    """What is known of one run of one engine. Times are Unix seconds."""

    launch_id: str
    name: str
    shim_pid: int
    shim_start_ticks: int
    boot: str = ""
    output_inode: int = 0  # of the pipe that the engine and its children write to
    pid: int = 0
    pid_start_ticks: int = 0
    started_unix_s: float = 0.0
    phase: str = "starting the process"
    allocated: dict[str, float] = field(default_factory=dict)
    last_error: str | None = None
    dropped_lines: int = 0
    ended_unix_s: float | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    left_behind: int = 0  # descendants that the shim had to end after the engine's own end


def write(path: Path, status: EngineStatus) -> None:
    """Replace *path* with *status*; on a full disk overwrite it, if there is one."""
    text = json.dumps(asdict(status)).encode()
    try:
        replace_file(path, text)
    except OSError:
        with suppress(OSError):
            overwrite_file(path, text)


def outputs(run_dir: RunDir) -> list[Output]:
    """Return the output of each engine that was started in *run_dir* since this boot."""
    boot = boot_id()
    found = (read(path) for path in (run_dir.path / "engines").glob("*.json"))
    return [
        Output(status.output_inode, status.shim_start_ticks)
        for status in found
        if status is not None and status.boot == boot
    ]


def read(path: Path) -> EngineStatus | None:
    """Return what *path* holds, or None if there is nothing that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known = {name: found[name] for name in EngineStatus.__slots__ if name in found}
        return EngineStatus(**known)
    except (OSError, ValueError, TypeError):
        return None
