"""Hours of traffic: whether memory, descriptors and processor time of the control plane stay flat.

What `scripts/soak` runs. The engines are the tests' stand-ins, so what is measured is gpuserve:
controller, routers, keeper, watch, shims. First it rests, to say what it costs to do nothing.

Exit status 0 if all is flat and every request was answered, 1 if not.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from gpuserve.rundir import RunDir
from gpuserve.units import MIB
from scripts.invariants import look
from scripts.traffic import Traffic
from tests.faults.stand_in.fake_device import Device
from tests.integration.instance.box import Box, make_box

MODELS = ("coder", "general")
ROLES = ("controller", "router", "keeper", "watch", "shim")
# Flat: over the whole run, by the line through its samples, less than this is added. Python's
# allocator takes memory in arenas of 1 MiB (PEP 445), so less than that says nothing.
FLAT_BYTES = 1 * MIB
FLAT_SHARE = 0.03
FLAT_FDS = 2.0
# What a request costs may differ so much between the first and the last third of the run: the
# box does other things too.
FLAT_COST = 1.25
# Caches fill, code is compiled to bytecode, pools grow to their size.
WARM_UP = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One process at one moment; `cpu_s` since it began."""

    at_s: float
    rss_bytes: int
    fds: int
    cpu_s: float


@dataclass
class Track:
    """What one process used, sample after sample."""

    name: str
    process: psutil.Process
    samples: list[Sample] = field(default_factory=list)

    def take(self) -> None:
        """Add a sample; raises psutil.NoSuchProcess if it has ended."""
        with self.process.oneshot():
            times = self.process.cpu_times()
            sample = Sample(
                at_s=time.monotonic(),
                rss_bytes=self.process.memory_info().rss,
                fds=self.process.num_fds(),
                cpu_s=times.user + times.system,
            )
        self.samples.append(sample)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line with the least squares through *points*, 0 for fewer than 2."""
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    across = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / across if across else 0.0


def tracks_of(run_dir: RunDir) -> list[Track]:
    """Return a track for each process of the control plane that runs now."""
    found: dict[str, Track] = {}
    for seen in sorted(look(run_dir).values(), key=lambda s: (s.started, s.pid)):
        if seen.role in ROLES:
            name = f"{seen.role} {seen.model}" if seen.model else seen.role
            while name in found:
                name += " +"
            found[name] = Track(name, psutil.Process(seen.pid))
    return list(found.values())


def judge(track: Track, requests: Sequence[int]) -> dict[str, Any]:
    """Return the figures of one process and whether they are flat.

    *requests* are the requests answered until each sample.
    """
    first = int(len(track.samples) * WARM_UP)
    samples, counted = track.samples[first:], requests[first:]
    span_s = samples[-1].at_s - samples[0].at_s
    begin_s = samples[0].at_s
    per_s = slope([(s.at_s - begin_s, s.rss_bytes) for s in samples])
    fds_per_s = slope([(s.at_s - begin_s, s.fds) for s in samples])
    mean_bytes = sum(s.rss_bytes for s in samples) / len(samples)
    third = len(samples) // 3
    early, late = _cost(samples, counted, 0, third), _cost(samples, counted, -third - 1, -1)
    serves = track.name.startswith("router") and early > 0
    flat = {
        "memory": per_s * span_s <= max(FLAT_BYTES, FLAT_SHARE * mean_bytes),
        "fds": fds_per_s * span_s <= FLAT_FDS,
        "cpu": not serves or late <= early * FLAT_COST,
    }
    return {
        "name": track.name,
        "rss_mib": [round(s.rss_bytes / MIB, 2) for s in (samples[0], samples[-1])],
        "rss_kib_per_hour": round(per_s * 3600 / 1024, 1),
        "fds": [samples[0].fds, samples[-1].fds],
        "fds_per_hour": round(fds_per_s * 3600, 2),
        "cpu_percent": round(100 * (samples[-1].cpu_s - samples[0].cpu_s) / span_s, 2),
        "cpu_ms_per_request": [round(1000 * early, 3), round(1000 * late, 3)] if serves else None,
        "flat": flat,
    }


def _cost(samples: Sequence[Sample], counted: Sequence[int], a: int, b: int) -> float:
    """Return processor seconds per request between two samples."""
    requests = counted[b] - counted[a]
    return (samples[b].cpu_s - samples[a].cpu_s) / requests if requests else 0.0


async def rest(tracks: Iterable[Track], rest_s: float) -> dict[str, dict[str, float]]:
    """Return what each process costs while nobody asks for anything."""
    tracks = list(tracks)
    for track in tracks:
        track.take()
    await asyncio.sleep(rest_s)
    found = {}
    for track in tracks:
        track.take()
        before, after = track.samples
        share = (after.cpu_s - before.cpu_s) / (after.at_s - before.at_s)
        rss = round(after.rss_bytes / MIB, 1)
        found[track.name] = {"cpu_percent": round(100 * share, 3), "rss_mib": rss}
        track.samples.clear()
    return found


async def soak(box: Box, minutes: float, rest_s: float, every_s: float) -> dict[str, Any]:
    """Run and return the summary."""
    await asyncio.to_thread(box.start)
    tracks = tracks_of(RunDir(box.instance.run_dir))
    idle = await rest(tracks, rest_s)
    _tell_idle(idle)
    traffic = Traffic(box.instance.port, MODELS, seed=0, clients=6, pause_s=0.1)
    asking = asyncio.create_task(traffic.run())
    requests: list[int] = []
    begun_s = time.monotonic()
    try:
        while time.monotonic() - begun_s < 60 * minutes:
            await asyncio.sleep(every_s)
            requests.append(sum(traffic.counts.values()))
            for track in tracks:
                track.take()
            _tell_sample(tracks, requests[-1], time.monotonic() - begun_s)
    finally:
        traffic.over = True
        await asyncio.wait({asking})
        await asyncio.to_thread(box.instance.gpuserve, "down")
        await asyncio.to_thread(box.end_if_running)
    asking.result()
    judged = [judge(track, requests) for track in tracks]
    return {
        "minutes": minutes,
        "cpus": os.cpu_count(),
        "requests": dict(traffic.counts),
        "idle": idle,
        "idle_cpu_percent": round(sum(row["cpu_percent"] for row in idle.values()), 3),
        "idle_rss_mib": round(sum(row["rss_mib"] for row in idle.values()), 1),
        "processes": judged,
        "flat": all(all(row["flat"].values()) for row in judged),
        "answered": all(name.endswith(" ok") for name in traffic.counts),
    }


def _tell_idle(idle: dict[str, dict[str, float]]) -> None:
    for name, row in idle.items():
        said = f"idle {name:18s} {row['cpu_percent']:6.3f} % of a core, {row['rss_mib']:6.1f} MiB"
        print(said, file=sys.stderr, flush=True)


def _tell_sample(tracks: list[Track], requests: int, at_s: float) -> None:
    words = [
        f"{t.name} {t.samples[-1].rss_bytes / MIB:.1f} MiB {t.samples[-1].fds} fds"
        for t in tracks
        if t.name.startswith(("controller", "router"))
    ]
    print(f"[{at_s:6.0f} s] {requests} requests, {', '.join(words)}", file=sys.stderr, flush=True)


def tell(summary: dict[str, Any]) -> None:
    """Print the summary for people."""
    print(f"{'process':18s} {'RSS MiB':>15s} {'KiB/h':>8s} {'fds':>9s} {'CPU %':>7s}  verdict")
    for row in summary["processes"]:
        rss, fds = row["rss_mib"], row["fds"]
        bad = [name for name, flat in row["flat"].items() if not flat]
        print(
            f"{row['name']:18s} {rss[0]:7.1f} {rss[1]:7.1f} {row['rss_kib_per_hour']:8.1f} "
            f"{fds[0]:4d} {fds[1]:4d} {row['cpu_percent']:7.2f}  "
            f"{'flat' if not bad else 'NOT FLAT: ' + ', '.join(bad)}"
        )
    asked = summary["requests"]
    print(f"{sum(asked.values())} requests in {summary['minutes']:g} minutes: {asked}")
    print(
        f"idle: {summary['idle_cpu_percent']} % of a core, {summary['idle_rss_mib']} MiB, "
        f"all processes of the control plane together"
    )
    print("flat" if summary["flat"] else "NOT FLAT")


def main() -> int:
    """Run; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rest", type=float, default=60.0, metavar="S", help="seconds idle first")
    parser.add_argument("--every", type=float, default=10.0, metavar="S", help="between samples")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    args = parser.parse_args()
    random.seed(0)
    root = Path(tempfile.mkdtemp(prefix="gpuserve-soak-"))
    device = Device(root / "device")
    device.prepare()
    box = make_box(root)
    box.environment = device.environment
    box.knobs = {name: {"token_s": 0.02} for name in MODELS}
    summary = asyncio.run(soak(box, args.minutes, args.rest, args.every))
    if args.json:
        print(json.dumps(summary, indent=1))
    else:
        tell(summary)
    if summary["flat"] and summary["answered"]:
        shutil.rmtree(root)
        return 0
    print(f"logs are in {root}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
