"""Proves that an instance left nothing: its processes, its sockets, its lock, its port."""

import fcntl
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from gpuserve.rundir import RunDir


@dataclass(frozen=True, slots=True)
class Traces:
    """What to look for after an instance has stopped: taken while it runs."""

    run_dir: Path
    processes: tuple[psutil.Process, ...]

    @classmethod
    def of(cls, run_dir: Path) -> "Traces":
        """Return the traces of the instance that runs in *run_dir*.

        Its processes are those whose command line names the directory, and their descendants:
        vLLM's EngineCore and workers have titles of their own.
        """
        found = {p.pid: p for root in named(run_dir) for p in family(root)}
        return cls(run_dir, tuple(found.values()))

    def left(self, port: int | None = None) -> list[str]:
        """Return one line for each thing that is still there; empty when all is gone."""
        alive = {p.pid: p for p in (*self.processes, *named(self.run_dir)) if is_alive(p)}
        run_dir = RunDir(self.run_dir)
        places = {self.run_dir, run_dir.sockets}
        sockets = [path for place in places for path in place.rglob("*") if path.is_socket()]
        return [
            *(f"process {pid}: {title(p)}" for pid, p in alive.items()),
            *(f"socket {path}" for path in sockets),
            *([f"lock {run_dir.lock}"] if is_locked(run_dir.lock) else []),
            *([f"port {port} answers"] if port and answers(port) else []),
        ]


def named(run_dir: Path) -> Iterator[psutil.Process]:
    """Yield the processes whose command line has *run_dir*, or a path in it or in its sockets."""
    me = psutil.Process()
    inside = {f"{run_dir}/", f"{RunDir(run_dir).sockets}/"}
    mine = {me.pid, *(parent.pid for parent in me.parents())}
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if process.pid not in mine and any(
            word == str(run_dir) or any(path in word for path in inside) for word in words
        ):
            yield process


def family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def is_alive(process: psutil.Process) -> bool:
    """Return whether it runs; psutil compares start times, so a reused pid is not it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return "gone meanwhile"


def is_locked(path: Path) -> bool:
    try:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
