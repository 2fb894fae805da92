"""RAM and processors of this host, within the limits of its container or service."""

import os
from pathlib import Path

from gpuserve.readings import Host


def read_host(root: Path = Path("/")) -> Host:
    """Return what this process may use: a cgroup (v2) limit counts where it is smaller.

    *root* is where /proc and /sys are looked up for the limits.
    """
    import psutil

    memory = psutil.virtual_memory()
    total, available = memory.total, memory.available
    for directory in _cgroups(root):
        limit = _number(directory / "memory.max")
        if limit is None:
            continue
        used = _number(directory / "memory.current") or 0
        # The page cache of files that nobody uses is given back under pressure.
        used -= _field(directory / "memory.stat", "inactive_file")
        total = min(total, limit)
        available = min(available, max(limit - used, 0))
    return Host(ram_total_bytes=total, ram_available_bytes=available, cpus=_cpus(root))


def _cpus(root: Path) -> int:
    cpus = float(len(os.sched_getaffinity(0)))
    for directory in _cgroups(root):
        try:
            quota, period = (directory / "cpu.max").read_text().split()
            cpus = min(cpus, int(quota) / int(period))  # "max 100000": no limit
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return max(round(cpus), 1)


def _cgroups(root: Path) -> list[Path]:
    """Return this process's cgroup directories, innermost first: each may set a limit."""
    mount = root / "sys" / "fs" / "cgroup"
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        if line.startswith("0::"):  # the one line of cgroup v2 (cgroups(7))
            own = mount / line.removeprefix("0::").lstrip("/")
            return [path for path in (own, *own.parents) if path.is_relative_to(mount)]
    return []


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max": no limit
        return None


def _field(path: Path, name: str) -> int:
    try:
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except (OSError, ValueError):
        pass
    return 0
