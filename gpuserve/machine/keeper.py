"""supervisord, asked over its XML-RPC interface on a Unix socket. Calls block; none lasts long.

supervisord answers every call with Fault 6 once it is shutting down (supervisor 4.3,
rpcinterface.py, `_update`), which is how a controller learns that the box is stopping.
"""

import http.client
import time
import xmlrpc.client
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuserve.machine.unixhttp import UnixConnection

_SHUTDOWN_STATE = 6
_BAD_NAME = 10
_ALREADY_STARTED = 60
_NOT_RUNNING = 70
_ALREADY_ADDED = 90
# A controller that is only being replaced ends within a second; then it hangs.
STOP_S = 5.0
CALL_TIMEOUT_S = 5.0


class KeeperGone(Exception):
    """The keeper does not answer: it is dead, hung, or not there yet."""


class KeeperStopping(Exception):
    """The keeper answers that it is shutting down."""


class KeeperRefused(Exception):
    """The keeper cannot do what was asked, for the reason in the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptProcess:
    """One process as supervisord sees it; `name` is `group:name` where they differ."""

    name: str
    pid: int  # 0: not running
    state: str  # RUNNING, STARTING, STOPPED, EXITED, BACKOFF, FATAL, STOPPING, UNKNOWN

    @property
    def runs(self) -> bool:
        """Whether there is a process, or will be without further asking."""
        return self.state in ("RUNNING", "STARTING", "BACKOFF", "STOPPING")


class Keeper:
    """One supervisord. Safe to use from several threads: each call opens its own connection."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def processes(self) -> dict[str, KeptProcess]:
        """Return every process of the configuration by name."""
        found = {}
        for row in self._call("supervisor.getAllProcessInfo"):
            group, own = str(row["group"]), str(row["name"])
            name = own if group == own else f"{group}:{own}"
            found[name] = KeptProcess(name=name, pid=int(row["pid"]), state=str(row["statename"]))
        return found

    def start(self, name: str) -> int:
        """Start *name* and return its pid, also if it runs already; 0 if it ended at once."""
        try:
            self._call("supervisor.startProcess", name, False)
        except _Fault as fault:
            if fault.code != _ALREADY_STARTED:
                raise KeeperRefused(f"cannot start {name}: {fault.text}") from fault
        return int(self._call("supervisor.getProcessInfo", name)["pid"])

    def keep(self, names: Iterable[str]) -> None:
        """Read the configuration anew and know the programs *names* from it.

        What is known already is not touched: supervisord compares nothing and stops nothing
        here (supervisor 4.3, rpcinterface.py, `reloadConfig`, `addProcessGroup`).
        """
        try:
            self._call("supervisor.reloadConfig")
        except _Fault as fault:
            raise KeeperRefused(f"cannot read its configuration: {fault.text}") from fault
        for name in names:
            try:
                self._call("supervisor.addProcessGroup", name)
            except _Fault as fault:
                if fault.code != _ALREADY_ADDED:
                    raise KeeperRefused(f"cannot add {name}: {fault.text}") from fault

    def forget(self, name: str) -> None:
        """Know the program *name* no more; it must not run."""
        try:
            self._call("supervisor.removeProcessGroup", name)
        except _Fault as fault:
            if fault.code != _BAD_NAME:
                raise KeeperRefused(f"cannot remove {name}: {fault.text}") from fault

    def restart(self, name: str) -> None:
        """End *name* and start it again."""
        try:
            self._call("supervisor.stopProcess", name, False)
        except _Fault as fault:
            if fault.code != _NOT_RUNNING:
                raise KeeperRefused(f"cannot stop {name}: {fault.text}") from fault
        self._await_stop(name)
        self.start(name)

    def _await_stop(self, name: str) -> None:
        """Wait for the end of *name*; one that does not take the signal is killed: it hangs."""
        begun_s = time.monotonic()
        while pid := self.processes()[name].pid:
            waited_s = time.monotonic() - begun_s
            if waited_s > STOP_S:
                with suppress(_Fault):
                    self._call("supervisor.signalProcess", name, "KILL")
            if waited_s > 2 * STOP_S:
                raise KeeperRefused(f"{name} (pid {pid}) does not end")
            time.sleep(0.05)

    def stop(self, name: str) -> None:
        """Ask *name* to end, for good; returns at once."""
        with suppress(_Fault):
            self._call("supervisor.stopProcess", name, False)

    def shut_down(self) -> None:
        """Ask the keeper to end with everything that it keeps."""
        self._call("supervisor.shutdown")

    def is_stopping(self) -> bool:
        """Return whether the keeper is shutting down."""
        try:
            self._call("supervisor.getState")
        except KeeperStopping:
            return True
        return False

    def _call(self, method: str, *params: Any) -> Any:
        body = xmlrpc.client.dumps(params, method).encode()
        connection = UnixConnection(self._path, CALL_TIMEOUT_S)
        try:
            connection.request("POST", "/RPC2", body, {"Content-Type": "text/xml"})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise KeeperGone(f"the keeper does not answer on {self._path}: {error}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise KeeperGone(f"the keeper answered with HTTP status {response.status}")
        try:
            values, _ = xmlrpc.client.loads(answer)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == _SHUTDOWN_STATE:
                raise KeeperStopping from fault
            raise _Fault(fault.faultCode, fault.faultString) from fault
        return values[0]


class _Fault(Exception):
    """An XML-RPC fault other than "shutting down"."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
