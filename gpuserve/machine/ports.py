"""Who listens on a TCP port of this host."""

import errno
import socket
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Listener:
    """A process that listens; `pid` is None where this user may not see whose it is."""

    pid: int | None
    name: str | None

    def __str__(self) -> str:
        if self.pid is None:
            return "a process that this user may not see"
        return f"{self.name} (pid {self.pid})"


def listener(port: int) -> Listener | None:
    """Return who listens on *port*, on any address, or None if nobody does."""
    import psutil

    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port:
                if connection.pid is None:
                    return Listener(None, None)
                return Listener(connection.pid, psutil.Process(connection.pid).name())
    return None


def why_not_bindable(host: str, port: int) -> str | None:
    """Return why *host*:*port* cannot be listened on, for people, or None if it can."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except (OSError, UnicodeError) as error:
            return _why(error, port)
    return None


def _why(error: OSError | UnicodeError, port: int) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"the port is in use by {listener(port) or Listener(None, None)}"
    if isinstance(error, socket.gaierror):
        return "the name does not resolve to an IPv4 address"
    return getattr(error, "strerror", None) or str(error)
