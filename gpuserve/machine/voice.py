"""Where the controller speaks to whoever ran `up`: the keeper's stderr, or the journal.

The keeper gives its children pipes, so the controller opens the keeper's own stderr anew
through /proc. Writes never block: a terminal that was stopped with ^S must not stop the
controller. What cannot be written is dropped; the same lines are in logs/controller.log.
"""

import os
import socket
import stat
import sys
from contextlib import suppress

from gpuserve.lifecycle.audit import Urgency

# The stream that services' stdout goes to; a header of seven lines, then text
# (systemd, src/journal/journald-stream.c; the same that sd_journal_stream_fd(3) sends).
_PRIORITIES = {"error": "<3>", "warning": "<4>", "info": "<6>"}  # sd-daemon(3)
_JOURNAL = "/run/systemd/journal/stdout"


class Voice:
    """Writes plain lines to the keeper's stderr."""

    def __init__(self, keeper_pid: int) -> None:
        self._fd, self._journal = _open(keeper_pid)

    def say(self, line: str, urgency: Urgency = "info") -> None:
        """Write one line; drop it if it cannot be written now."""
        prefix = _PRIORITIES[urgency] if self._journal else ""
        data = f"{prefix}{line}\n".encode("utf-8", "replace")
        with suppress(OSError):  # the keeper's end of the pipe may be gone, and we not yet
            print(line, file=sys.stderr, flush=True)
        if self._fd is not None:
            with suppress(OSError):
                os.write(self._fd, data)


def _open(keeper_pid: int) -> tuple[int | None, bool]:
    """Return where to write, and whether the journal reads there."""
    path = f"/proc/{keeper_pid}/fd/2"
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116 - a link that Path.stat follows too
            return _open_journal(), True
        flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return os.open(path, flags), False
    except OSError:
        return None, False


def _open_journal() -> int | None:
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        stream.connect(_JOURNAL)
        header = ("gpuserve", "", "6", "1", "0", "0", "0")  # identifier, unit, priority, prefixes
        stream.sendall(("\n".join(header) + "\n").encode())
        stream.setblocking(False)
        return stream.detach()
    except OSError:
        stream.close()
        return None
