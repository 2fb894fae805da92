"""What must hold of an instance at every moment, looked up in /proc and in its own status.

A process table and a status that were read at two moments may differ for good reasons, so a
difference counts only when it lasts.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from gpuserve.rundir import RunDir

# What a killed engine leaves behind has 5 s to end by itself, and is then killed.
ORPHAN_S = 15.0
# A controller that was killed has to be started, to look, and to adopt.
DIFFERS_S = 12.0
# One that hangs is replaced after 25 s at the most; until then nobody tidies up.
SILENT_S = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One process of the instance at one moment."""

    pid: int
    ppid: int
    role: str  # keeper, controller, watch, router, shim, server, core, worker
    model: str | None
    started: float


def look(run_dir: RunDir) -> dict[int, Seen]:
    """Return the living processes whose command line names the instance."""
    places = (f"{run_dir.path}", f"{run_dir.sockets}")
    found = {}
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if not any(word.startswith(places) for word in words):
                continue
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            role, model = _role(words, run_dir)
            if role is not None:
                found[process.pid] = Seen(
                    pid=process.pid,
                    ppid=process.ppid(),
                    role=role,
                    model=model,
                    started=process.create_time(),
                )
        except psutil.Error:
            continue
    return found


def _role(words: list[str], run_dir: RunDir) -> tuple[str | None, str | None]:
    socket = next((w for w in words if w.startswith(str(run_dir.sockets / "engines"))), None)
    model = Path(socket).stem if socket else None
    for word in words:
        if word.startswith("fake-engine-"):
            return word.removeprefix("fake-engine-"), model
        if word.endswith("fake_engine.py"):
            return "server", model
        if word == "gpuserve.shim":
            return "shim", words[-1]
        if word in ("gpuserve.controller", "gpuserve.router", "gpuserve.watch"):
            return word.removeprefix("gpuserve."), None
        if word == "gpuserve.daemon.supervisord":
            return "keeper", None
    return None, None


@dataclass
class Invariants:
    """Compares again and again; `violations` is what must not have been."""

    run_dir: RunDir
    violations: list[str] = field(default_factory=list)
    _since: dict[str, float] = field(default_factory=dict)

    def check(self, table: dict[int, Seen], status: dict[str, Any] | None) -> None:
        """Compare one look at the processes with a status read just after it, None if silent."""
        if status is None:
            found = {"silent": "the controller does not answer"}
            limits = {"silent": SILENT_S}
        else:
            found = dict(_orphans(table))
            limits = dict.fromkeys(found, ORPHAN_S)
            differences = dict(_differences(table, status))
            found |= differences
            limits |= dict.fromkeys(differences, DIFFERS_S)
        now_s = time.monotonic()
        self._since = {key: self._since.get(key, now_s) for key in found}
        for key, since_s in self._since.items():
            if now_s - since_s > limits[key]:
                self._say(f"for {now_s - since_s:.0f} s: {found[key]}")
                self._since[key] = now_s

    def forget(self) -> None:
        """Begin anew: the instance was ended and started again."""
        self._since.clear()

    def _say(self, what: str) -> None:
        self.violations.append(what)


def _orphans(table: dict[int, Seen]) -> Iterator[tuple[str, str]]:
    """Yield processes that nobody above them answers for."""
    for seen in table.values():
        parent = table.get(seen.ppid)
        wanted = {"core": "server", "worker": "core", "server": "shim"}.get(seen.role, "keeper")
        if seen.role == "keeper" or (parent is not None and parent.role == wanted):
            continue
        name = f"{seen.role} {seen.model or ''}".strip()
        above = parent.role if parent else "none of the instance"
        what = f"{name} (pid {seen.pid}) runs without its {wanted}; parent is {seen.ppid} ({above})"
        yield f"orphan {seen.pid}", what


def _differences(table: dict[int, Seen], status: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield where the status and the process table do not agree."""
    for model in status["models"]:
        name, pid = model["name"], model["pid"]
        servers = sorted(s.pid for s in table.values() if s.role == "server" and s.model == name)
        shims = sorted(s.pid for s in table.values() if s.role == "shim" and s.model == name)
        said = f"status says {name} is {model['state']} with pid {pid}"
        if len(servers) > 1:
            yield f"status {name} twice", f"{name} runs {len(servers)} times: {servers}"
        if pid is None and servers:
            yield f"status {name} none", f"{said}, /proc has {servers}"
        if pid is not None and pid not in servers and model["ready"]:
            yield f"status {name} other", f"{said}, /proc has {servers}"
        if (model["shim_pid"] or None) not in (*shims, None):
            yield f"status {name} shim", f"{said} and shim {model['shim_pid']}, /proc has {shims}"
