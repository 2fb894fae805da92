"""supervisord's configuration as text: which processes there are, and how they are kept.

Pure. Restarting an engine is a decision about GPU memory, so supervisord never does that:
`autorestart=false` together with `startretries=0` and `startsecs=0` (without the last two it
still spawns a program that exits at once four times).
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from gpuserve.profile.spec import Patience, ServerSpec
from gpuserve.rundir import RunDir

# Stopped in descending order, one group after another: the controller first, so that it can
# drain and stop the engines while the routers still answer.
CONTROLLER_PRIORITY = 900
ENGINE_PRIORITY = 500
ROUTER_PRIORITY = 100
# What a stop may take beyond what the profile grants: SIGKILL, and memory coming back.
STOP_MARGIN_S = 30.0
# supervisord restarts at once, for ever, what ran for longer than this before it ended; before
# that it waits a second more each time. A controller that crashes on what it finds needs the
# latter: engines and routers go on without it.
CONTROLLER_START_S = "10"
# Streams that outlive their engine end at once; this is for the last bytes.
ROUTER_STOP_S = 10


@dataclass(frozen=True, slots=True)
class KeptEngine:
    """An engine's name and the patience of its supervisor."""

    name: str
    patience: Patience


def router_slots(workers: int) -> int:
    """Return the number of router slots: a holder, the workers, and a spare for each."""
    return 1 + 2 * workers


def engine_program(name: str) -> str:
    """Return the name of an engine's program in the keeper."""
    return f"engine-{name}"


def router_program(slot: int) -> str:
    """Return the name of a router slot's process in the keeper."""
    return f"router:router_{slot:02d}"


def keeper_conf(
    run_dir: RunDir, python: str, server: ServerSpec, engines: Sequence[KeptEngine]
) -> str:
    """Return keeper.conf for one instance. *python* runs every process of it."""
    stop_s = max((_stop_s(engine.patience) for engine in engines), default=0.0)
    sections = [
        _section(
            "supervisord",
            nodaemon="true",
            silent="true",
            identifier="gpuserve",
            umask="077",
            pidfile=_text(run_dir.path / "keeper.pid"),
            logfile=_text(run_dir.logs / "keeper.log"),
            logfile_maxbytes="1MB",
            logfile_backups="1",
            childlogdir=_text(run_dir.logs),
        ),
        _section("unix_http_server", file=_text(run_dir.keeper_socket), chmod="0700"),
        _section(
            "rpcinterface:supervisor",
            **{
                "supervisor.rpcinterface_factory": (
                    "supervisor.rpcinterface:make_main_rpcinterface"
                )
            },
        ),
        _section(
            "program:controller",
            command=_command(python, "gpuserve.controller", run_dir.path),
            priority=str(CONTROLLER_PRIORITY),
            autorestart="true",
            startsecs=CONTROLLER_START_S,
            startretries="1000",
            stopwaitsecs=str(int(stop_s + STOP_MARGIN_S)),
            **_logs(run_dir, "controller"),
        ),
        _section(
            "eventlistener:watch",
            command=_command(python, "gpuserve.watch", run_dir.path),
            events="TICK_5",
            autorestart="true",
            startretries="1000",
            **_logs(run_dir, "watch"),
        ),
        _section(
            "fcgi-program:router",
            command=_command(python, "gpuserve.router", run_dir.path) + " %(process_num)d",
            socket=f"tcp://{server.host}:{server.port}",
            process_name="router_%(process_num)02d",
            numprocs=str(router_slots(server.workers)),
            priority=str(ROUTER_PRIORITY),
            autostart="false",
            autorestart="true",
            startsecs="1",
            startretries="1000",
            stopwaitsecs=str(ROUTER_STOP_S),
            **_logs(run_dir, "router_%(process_num)02d"),
        ),
        *(_engine(run_dir, python, engine) for engine in engines),
    ]
    return "\n".join(sections)


def _engine(run_dir: RunDir, python: str, engine: KeptEngine) -> str:
    return _section(
        f"program:{engine_program(engine.name)}",
        command=_command(python, "gpuserve.shim", run_dir.path) + f" {engine.name}",
        priority=str(ENGINE_PRIORITY),
        autostart="false",
        autorestart="false",
        startsecs="0",
        startretries="0",
        stopwaitsecs=str(int(engine.patience.stop_timeout_s + STOP_MARGIN_S)),
        **_logs(run_dir, f"shim-{engine.name}"),
    )


def _stop_s(patience: Patience) -> float:
    return patience.drain_timeout_s + patience.stop_timeout_s


def _logs(run_dir: RunDir, name: str) -> dict[str, str]:
    """What a process says of itself, bounded; an engine's output is not among it."""
    path = str(run_dir.logs).replace("%", "%%")
    return {
        "stdout_logfile": "NONE",
        "stderr_logfile": f"{path}/{name}.log",
        "stderr_logfile_maxbytes": "1MB",
        "stderr_logfile_backups": "1",
    }


def _command(python: str, module: str, run_dir: object) -> str:
    # -P: a file in the directory that `up` was called from must not shadow a module.
    words = (python, "-P", "-m", module, str(run_dir))
    return " ".join(shlex.quote(word) for word in words).replace("%", "%%")


def _text(value: object) -> str:
    return str(value).replace("%", "%%")


def _section(header: str, **options: str) -> str:
    lines = [f"[{header}]", *(f"{key} = {value}" for key, value in options.items())]
    return "\n".join(lines) + "\n"
