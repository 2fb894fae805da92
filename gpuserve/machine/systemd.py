"""What systemd wants to hear: one datagram per message, sd_notify(3). Standard library only."""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class Notifier:
    """Speaks to the service manager that started this instance, or to nobody.

    WATCHDOG_PID is ignored on purpose: it names the main process, and pings from any process
    of the unit count with NotifyAccess=all.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watched = environ.get("WATCHDOG_USEC", "").isdigit()

    def say(self, *assignments: str) -> None:
        """Send assignments such as "READY=1"; never raises, never blocks."""
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.connect(self._address)
            out.send("\n".join(assignments).encode())

    def ping_watchdog(self) -> None:
        """Say that the keeper lives, if a watchdog is armed."""
        if self._watched:
            self.say("WATCHDOG=1")


def notifier() -> Notifier:
    """Return the notifier of this process's environment."""
    return Notifier(os.environ)
