"""Makes the run directory ready for one instance, and says who holds it if somebody does."""

import errno
import os
import stat
from datetime import datetime
from pathlib import Path

from gpuserve.errors import HostUnavailable, UsageError
from gpuserve.machine.control import find_instance
from gpuserve.machine.ports import why_not_bindable
from gpuserve.plan import Plan
from gpuserve.rundir import RunDir

# supervisord reads its configuration with ConfigParser, in which these begin a comment or end
# a line, and expands `%` twice in the names of log files (supervisor 4.3, datatypes.py).
_FORBIDDEN = set("\n\r;#\"'\\%")


def claim(run_dir: RunDir) -> None:
    """Make the run directory, private to this user; raises HostUnavailable or UsageError."""
    if _FORBIDDEN & set(str(run_dir.path)):
        raise UsageError(
            f"cannot use the run directory {run_dir.path}: its path holds one of ; # % \" ' \\",
            hint="use another with --run-dir",
        )
    _make(run_dir, run_dir.path)


def make_subdirectories(run_dir: RunDir) -> None:
    """Make what is below the run directory; raises HostUnavailable. Hold the lock."""
    _make(run_dir, run_dir.sockets)
    for path in (
        *(run_dir.logs, run_dir.logs / "engines"),
        *(run_dir.path / "launches", run_dir.path / "engines"),
        *(run_dir.sockets / "engines", run_dir.sockets / "routers"),
    ):
        _make(run_dir, path)


def _make(run_dir: RunDir, path: Path) -> None:
    try:
        _make_private(path)
    except OSError as error:
        raise HostUnavailable(
            f"cannot make the run directory {run_dir.path}: {error.strerror} ({error.filename})",
            hint="use another with --run-dir, or make it and give it to this user",
        ) from error


def _make_private(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()  # a link in /tmp may be anybody's
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise PermissionError(errno.EPERM, "it belongs to another user", str(path))
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)


def refuse_if_running(run_dir: RunDir) -> None:
    """Raise HostUnavailable, with who runs, if an instance lives in *run_dir*."""
    found = find_instance(run_dir)
    if found is None:
        return
    since = datetime.fromtimestamp(found.started_unix_s).astimezone()
    raise HostUnavailable(
        f"an instance runs in {run_dir.path} already: pid {found.keeper_pid}, "
        f"profile {found.profile}, {found.url}, since {since:%Y-%m-%d %H:%M:%S}",
        hint="`gpuserve status` shows it, `gpuserve down` ends it; "
        "another instance needs its own --run-dir and port",
    )


def refuse_if_ports_taken(plan: Plan) -> None:
    """Raise HostUnavailable, with who listens, unless every port of the plan can be bound."""
    server = plan.profile.server
    wanted = [(server.host, server.port, "[server] port or host")]
    wanted += [("127.0.0.1", m.port, f"the port of {m.name}") for m in plan.launches if m.port]
    for host, port, key in wanted:
        why = why_not_bindable(host, port)
        if why is not None:
            raise HostUnavailable(
                f"cannot listen on {host}:{port}: {why}",
                hint=f"change {key} in the profile, or end what holds it",
            )
