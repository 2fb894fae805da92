"""What the kernel's OOM killer has done so far, and on whose account: cgroups, or the whole host.

cgroup v2: `oom` in memory.events.local counts how often that group's own limit was met,
`oom_kill` in memory.events its processes that were killed for whatever reason
(Documentation/admin-guide/cgroup-v2.rst). v1: `oom_kill` in memory.oom_control. Host: `oom_kill`
in /proc/vmstat.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpuserve.units import gib

_CGROUPS = Path("/sys/fs/cgroup")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One cgroup: how often its limit was met, and how many of its processes were killed."""

    path: str
    limit_bytes: int | None
    limit_met: int
    killed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kills:
    """The counters of one moment. `groups` are ours and those above it, the lowest first."""

    groups: tuple[Group, ...]
    host: int


def read(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> Kills:
    """Return the counters now; what cannot be read counts as 0."""
    host = _counters(proc / "vmstat").get("oom_kill", 0)
    return Kills(groups=tuple(_groups(proc, cgroups)), host=host)


def on_whose_account(before: Kills, after: Kills) -> str | None:
    """Return whose memory had run out when a process was killed in between, None if none was."""
    earlier = {group.path: group for group in before.groups}
    met, killed = None, False
    for group in after.groups:
        then = earlier.get(group.path)
        if then is None:
            continue
        killed = killed or group.killed > then.killed
        if met is None and group.limit_met > then.limit_met:
            met = group
    if killed and met is not None:
        limit = f", {gib(met.limit_bytes)}" if met.limit_bytes is not None else ""
        return f"the memory limit of cgroup {met.path}{limit}"
    if killed or after.host > before.host:
        return "the host's memory ran out"
    return None


def _groups(proc: Path, cgroups: Path) -> list[Group]:
    found = []
    with suppress(OSError):
        for line in (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                top = cgroups
            elif "memory" in controllers.split(","):
                top = cgroups / "memory"
            else:
                continue
            parts = Path(path.lstrip("/")).parts
            for depth in range(len(parts), -1, -1):
                group = _group(top.joinpath(*parts[:depth]), "/" + "/".join(parts[:depth]))
                if group is not None:
                    found.append(group)
    return found


def _group(where: Path, path: str) -> Group | None:
    events, local = _counters(where / "memory.events"), _counters(where / "memory.events.local")
    old = _counters(where / "memory.oom_control")
    if not (events or old):
        return None
    killed = events.get("oom_kill", old.get("oom_kill", 0))
    return Group(
        path=path,
        limit_bytes=_limit(where / "memory.max") or _limit(where / "memory.limit_in_bytes"),
        limit_met=local.get("oom", events.get("oom", killed)),
        killed=killed,
    )


def _counters(path: Path) -> dict[str, int]:
    found = {}
    with suppress(OSError, ValueError):
        for line in path.read_text(encoding="ascii").splitlines():
            key, _, value = line.partition(" ")
            if value.isdigit():
                found[key] = int(value)
    return found


def _limit(path: Path) -> int | None:
    with suppress(OSError, ValueError):  # "max" is no limit
        return int(path.read_text(encoding="ascii"))
    return None
