"""A cgroup of its own for each engine, where the service manager has delegated its subtree.

With it one write ends an engine with every descendant, also those that called setsid:
cgroup.kill (cgroup v2, Linux 5.14). Standard library only. Without delegation there is none,
and ancestry has to do.
"""

import os
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def delegated(environ: dict[str, str]) -> Path | None:
    """Return this process's own cgroup if a service manager delegated it to us, else None.

    Only under systemd (INVOCATION_ID is set) and only where we may write: elsewhere the
    cgroup of a terminal or a container belongs to somebody else.
    """
    if "INVOCATION_ID" not in environ:
        return None
    try:
        line = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()[-1]
    except (OSError, IndexError):
        return None
    if not line.startswith("0::/"):
        return None
    own = _ROOT / line.removeprefix("0::/")
    usable = os.access(own, os.W_OK) and (own / "cgroup.procs").exists()
    return own if usable and own != _ROOT else None


class Group:
    """One cgroup. Every method does what it can and never raises: ancestry is the fallback."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with suppress(OSError):
            path.mkdir(exist_ok=True)

    def enter(self) -> None:
        """Move the calling process into the group."""
        with suppress(OSError):
            (self._path / "cgroup.procs").write_text("0", encoding="ascii")

    def kill(self) -> None:
        """End every process in the group."""
        with suppress(OSError):
            (self._path / "cgroup.kill").write_text("1", encoding="ascii")

    def remove(self) -> None:
        """Remove the group; it must be empty."""
        with suppress(OSError):
            self._path.rmdir()
