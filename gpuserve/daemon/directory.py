"""Makes the run directory ready for one instance, and says who holds it if somebody does."""

import errno
import fcntl
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from gpuserve.errors import HostUnavailable, UsageError
from gpuserve.machine.control import find_instance
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
    subdirectories = [
        *(run_dir.logs, run_dir.path / "launches", run_dir.path / "engines"),
        *(run_dir.sockets / "engines", run_dir.sockets / "routers"),
    ]
    try:
        for path in (run_dir.path, run_dir.sockets):
            _make_private(path)
        for path in subdirectories:
            path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise HostUnavailable(
            f"cannot make the run directory {run_dir.path}: {error.strerror} ({error.filename})",
            hint="use another with --run-dir, or make it and give it to this user",
        ) from error


def _make_private(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.stat()
    if found.st_uid != os.getuid():
        raise PermissionError(errno.EPERM, "it belongs to another user", str(path))
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)


@contextmanager
def locked(run_dir: RunDir) -> Iterator[None]:
    """Hold the run directory's lock, so that of two starts at once one sees the other."""
    with run_dir.lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


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


def remove_leftovers(run_dir: RunDir) -> None:
    """Remove what an instance that was killed has left; logs and what is remembered stay."""
    for directory in (
        *(run_dir.path / "launches", run_dir.path / "engines"),
        *(run_dir.sockets / "engines", run_dir.sockets / "routers"),
    ):
        for path in directory.iterdir() if directory.is_dir() else ():
            path.unlink(missing_ok=True)
    for path in (
        *(run_dir.keeper_socket, run_dir.control_socket, run_dir.heartbeat),
        *(run_dir.routing, run_dir.plan, run_dir.keeper_conf, run_dir.path / "keeper.pid"),
    ):
        path.unlink(missing_ok=True)


def refuse_if_port_taken(host: str, port: int) -> None:
    """Raise HostUnavailable, with who listens, unless *host*:*port* can be bound."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except (OSError, UnicodeError) as error:
            raise HostUnavailable(
                f"cannot listen on {host}:{port}: {_why(error, port)}",
                hint="change [server] port or host in the profile, or end what holds it",
            ) from error


def _why(error: OSError | UnicodeError, port: int) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"the port is in use by {_holder(port)}"
    if isinstance(error, socket.gaierror):
        return "the name does not resolve to an IPv4 address"
    return getattr(error, "strerror", None) or str(error)


def _holder(port: int) -> str:
    import psutil

    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port:
                if connection.pid is None:
                    break
                name = psutil.Process(connection.pid).name()
                return f"{name} (pid {connection.pid})"
    return "a process that this user may not see"


def free_bytes(path: Path) -> int:
    """Return the free space of the file system that holds *path*."""
    return shutil.disk_usage(path).free
