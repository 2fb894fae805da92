"""HTTP over a Unix socket, blocking: what the commands and the keeper's client speak.

Standard library only.
"""

import http.client
import socket
from pathlib import Path


class UnixConnection(http.client.HTTPConnection):
    """One connection to the server that listens on *path*."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
