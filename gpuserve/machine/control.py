"""The controller as a command sees it: its API on control.sock. Blocking, standard library only."""

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gpuserve.errors import AnswerIsNo, GpuserveError, HostUnavailable, UsageError
from gpuserve.machine.instance import Instance, running
from gpuserve.machine.unixhttp import UnixConnection
from gpuserve.rundir import RunDir

# Longer than the controller gives the check (controller/reload.py, CHECK_S).
RELOAD_CHECK_S = 180.0


_LAST_BYTES = 2000


class ControllerSilent(HostUnavailable):
    """An instance runs, but its controller does not answer (now)."""


class Control:
    """One instance's controller. Each call opens its own connection."""

    def __init__(self, run_dir: RunDir) -> None:
        self._path = run_dir.control_socket
        self._log = run_dir.logs / "controller.log"

    def status(self, *, timeout_s: float = 5.0) -> dict[str, Any]:
        """Return the status of the contract; raises ControllerSilent."""
        return self._call("GET", "/status", timeout_s)

    def command(self, model: str, verb: str) -> dict[str, Any]:
        """Ask for *verb* on *model*; raises UsageError when there is no such model."""
        return self._call("POST", f"/models/{quote(model, safe='')}/{verb}", 10.0)

    def reload(self, profile: Path | None, *, dry_run: bool) -> dict[str, Any]:
        """Have the controller check *profile*, None for its own, and then put it in force.

        Returns once that has begun, or was refused: `accepted`, `exit_status`, `problems`, `diff`.
        """
        body = {"profile": str(profile) if profile else None, "dry_run": dry_run}
        return self._call("POST", "/reload", RELOAD_CHECK_S, json.dumps(body).encode())

    def replace_routers(self) -> dict[str, Any]:
        """Have the routers replaced one after the other; returns once that has begun."""
        return self._call("POST", "/routers", 5.0)

    def down(self, *, hurry: bool) -> dict[str, Any]:
        """Ask for the end of the instance; returns at once."""
        return self._call("POST", f"/down?now={int(hurry)}", 5.0)

    def _call(
        self, method: str, path: str, timeout_s: float, body: bytes | None = None
    ) -> dict[str, Any]:
        connection = UnixConnection(self._path, timeout_s)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ControllerSilent(
                f"the controller does not answer on {self._path}: {error}",
                hint="the keeper replaces a controller that hangs within 30 s; "
                f"{self._log} says more{_last_line(self._log)}",
            ) from error
        finally:
            connection.close()
        if response.status != 200:
            raise _refused(response.status, answer)
        return dict(answer)


def _last_line(log: Path) -> str:
    """Return what the controller said last, for the end of a hint."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LAST_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    said = [line for line in lines if line.strip()]
    return f'; its last words: "{said[-1].strip()}"' if said else ""


def _refused(status: int, answer: dict[str, Any]) -> GpuserveError:
    if status == http.client.CONFLICT:
        return AnswerIsNo(str(answer.get("error", "refused")))
    known = answer.get("models")
    hint = f"models: {', '.join(known)}" if known else None
    return UsageError(str(answer.get("error", "refused")), hint=hint)


def find_instance(run_dir: RunDir) -> Instance | None:
    """Return the instance that runs in *run_dir*, or None.

    Raises HostUnavailable when there is one that this user may not talk to.
    """
    try:
        return running(run_dir)
    except PermissionError as error:
        raise HostUnavailable(
            f"cannot read the run directory {run_dir.path}: it belongs to another user",
            hint="run the command as the user who runs gpuserve, for example with sudo -u",
        ) from error


def default_run_dir(environ: dict[str, str], uid: int, home: Path) -> Path:
    """Return where an instance lives when `--run-dir` does not say."""
    runtime = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if runtime:
        return Path(runtime)
    if uid == 0:
        return Path("/run/gpuserve")
    if environ.get("XDG_RUNTIME_DIR"):
        return Path(environ["XDG_RUNTIME_DIR"]) / "gpuserve"
    state = environ.get("XDG_STATE_HOME")
    return (Path(state) if state else home / ".local" / "state") / "gpuserve"
