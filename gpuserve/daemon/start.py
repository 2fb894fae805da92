"""Becomes the keeper: writes the plan down and replaces this process with supervisord."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from gpuserve import __version__, jsonvalues
from gpuserve.daemon import directory
from gpuserve.errors import HostUnavailable
from gpuserve.keeperconf import KeptEngine, keeper_conf
from gpuserve.machine import families, instance, statedir
from gpuserve.machine.files import overwrite_file
from gpuserve.machine.kernel import become_subreaper
from gpuserve.machine.processes import boot_id, everything, read
from gpuserve.plan import Plan
from gpuserve.rundir import RunDir
from gpuserve.shim.status import outputs


def url_of(plan: Plan) -> str:
    """Return the endpoint's URL as a client on this host writes it."""
    server = plan.profile.server
    host = "127.0.0.1" if server.host in ("0.0.0.0", "") else server.host  # noqa: S104 - compared
    return f"http://{host}:{server.port}"


def interpreter(called: Path, executable: Path) -> Path:
    """Return *executable*, this interpreter, by the path of *called*, the script that runs.

    Where that goes over a link, such as /opt/gpuserve/current, whatever the keeper starts later
    comes from where the link leads then: that is how a new version is taken over.
    """
    beside = Path(os.path.abspath(called)).parent  # noqa: PTH100 - the link is what is wanted
    found = beside / executable.name
    same = os.path.realpath(beside) == os.path.realpath(executable.parent)
    return found if same and found.exists() else executable


def write_down(run_dir: RunDir, plan: Plan) -> None:
    """Write all that the keeper and the controller read, for this process as the keeper."""
    own = read(os.getpid())
    server = plan.profile.server
    engines = [KeptEngine(launch.name, launch.patience) for launch in plan.launches]
    python = interpreter(Path(sys.argv[0]), Path(sys.executable))
    try:
        # Private by itself: it holds the engines' environment, tokens and keys included.
        overwrite_file(run_dir.plan, jsonvalues.dumps(plan))
        run_dir.keeper_conf.write_text(
            keeper_conf(run_dir, str(python), server, engines), encoding="utf-8"
        )
        instance.write(
            run_dir,
            instance.Instance(
                keeper_pid=os.getpid(),
                keeper_start_ticks=own.start_ticks if own else 0,
                profile=plan.profile.path,
                url=url_of(plan),
                started_unix_s=time.time(),
                version=__version__,
                state_dir=str(statedir.make(run_dir)),
                boot=boot_id(),
                children=tuple(
                    process.pid for process in everything().values() if process.ppid == os.getpid()
                ),
            ),
        )
    except OSError as error:
        raise HostUnavailable(
            f"cannot write to the run directory {run_dir.path}: {error.strerror}",
            hint="make room, or use another with --run-dir",
        ) from error


def become_keeper(run_dir: RunDir) -> NoReturn:
    """Replace this process with supervisord; the pid stays.

    supervisord takes SIGHUP for "restart everything", so it is blocked; the mask survives
    exec, as does being a subreaper: what a killed shim leaves behind becomes our child.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    become_subreaper()
    sys.stdout.flush()
    sys.stderr.flush()
    words = [sys.executable, "-P", "-m", "gpuserve.daemon.supervisord", "-n"]
    os.execv(sys.executable, [*words, "-c", str(run_dir.keeper_conf)])  # noqa: S606


def prepare_directory(run_dir: RunDir, plan: Plan) -> None:
    """Check the ports and write the files, with the lock held; raises HostUnavailable."""
    # From here on files say that an instance runs: a signal waits until the keeper can answer it
    # by removing them. The mask survives exec.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    with instance.locked(run_dir):
        directory.refuse_if_running(run_dir)
        try:
            directory.refuse_if_ports_taken(plan)
        except HostUnavailable:
            run_dir.lock.unlink(missing_ok=True)
            raise
        orphans = families.end(families.read(run_dir) | families.writers(outputs(run_dir)))
        if orphans:
            pids = ", ".join(str(process.pid) for process in orphans)
            print(f"ended what an instance that was killed has left: pid {pids}", file=sys.stderr)
        instance.remove_leftovers(run_dir)
        directory.make_subdirectories(run_dir)
        write_down(run_dir, plan)
