"""A short run of scripts/chaos, and that what it and scripts/soak look for would be seen."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from gpuserve.rundir import RunDir
from gpuserve.units import MIB
from scripts import soak
from scripts.chaos import make
from scripts.invariants import Invariants, Seen, _differences, _orphans
from scripts.traffic import Outcome, judge

ROOT = Path(__file__).parents[2]


def test_a_short_chaos_run_holds_every_invariant() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.chaos", "--minutes", "0.3", "--seed", "7", "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    summary = json.loads(done.stdout)
    assert summary["violations"] == []
    assert summary["actions"] > 3
    assert summary["requests"] > 50
    assert summary["counts"]["plain ok"] > 0
    assert summary["counts"]["stream ok"] > 0


def process(pid: int, ppid: int, role: str, model: str | None = None) -> Seen:
    return Seen(pid=pid, ppid=ppid, role=role, model=model, started=0.0)


SOUND = {
    s.pid: s
    for s in (
        process(1, 0, "keeper"),
        process(2, 1, "controller"),
        process(3, 1, "shim", "a"),
        process(4, 3, "server", "a"),
        process(5, 4, "core", "a"),
        process(6, 5, "worker", "a"),
    )
}


def status(**model: Any) -> dict[str, Any]:
    row = {"name": "a", "state": "Ready", "ready": True, "pid": 4, "shim_pid": 3} | model
    return {"models": [row]}


def test_a_sound_instance_has_nothing_to_say() -> None:
    assert list(_orphans(SOUND)) == []
    assert list(_differences(SOUND, status())) == []


@pytest.mark.parametrize("gone", [3, 4, 5])
def test_whoever_lost_its_parent_is_an_orphan(gone: int) -> None:
    left = {pid: seen for pid, seen in SOUND.items() if pid != gone}
    ((key, what),) = _orphans(left)
    assert key == f"orphan {gone + 1}"
    assert "runs without its" in what


@pytest.mark.parametrize(
    "said",
    [
        {"pid": 99},
        {"pid": None, "ready": False, "state": "Stopped"},
        {"shim_pid": 98},
    ],
    ids=["another pid", "none", "another shim"],
)
def test_a_status_that_differs_is_seen_and_counts_when_it_lasts(
    said: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert len(list(_differences(SOUND, status(**said)))) == 1
    now_s = [0.0]
    monkeypatch.setattr("scripts.invariants.time.monotonic", lambda: now_s[0])
    invariants = Invariants(RunDir(tmp_path))
    for now_s[0] in (0.0, 5.0):
        invariants.check(SOUND, status(**said))
    assert invariants.violations == []
    now_s[0] = 60.0
    invariants.check(SOUND, status(**said))
    assert len(invariants.violations) == 1


def test_an_engine_that_runs_twice_is_seen() -> None:
    twice = SOUND | {7: process(7, 3, "server", "a")}
    assert any("runs 2 times" in what for _, what in _differences(twice, status()))


CHUNK = 'data: {"choices": [{"delta": {"content": "%d"}}]}\n\n'


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (200, CHUNK % 0 + CHUNK % 1 + "data: [DONE]\n\n", "ok"),
        (200, CHUNK % 0 + "data: [DONE]\n\n", "wrong"),
        (200, CHUNK % 1 + CHUNK % 0 + "data: [DONE]\n\n", "wrong"),
        (200, CHUNK % 0, "cut"),
        (200, CHUNK % 0 + 'data: {"error": {"message": "it died"}}\n\n', "told"),
        (503, '{"error": {"message": "it loads"}}', "refused"),
        (503, "Service Unavailable", "wrong"),
        (500, '{"error": {"message": "internal error"}}', "wrong"),
    ],
)
def test_an_answer_is_judged_by_what_it_holds(code: int, text: str, kind: str) -> None:
    assert judge(code, text, stream=True, tokens=2)[0] == kind


def test_a_cut_is_excused_only_by_a_fault_of_its_time(tmp_path: Path) -> None:
    chaos = make(tmp_path, 1, lambda _: None)
    outcome = Outcome(kind="cut", model="alpha", stream=True, began_s=10.0, ended_s=11.0)
    chaos.router_faults.append([10.5, 10.6])
    chaos.judge(outcome)
    assert chaos.violations == []
    chaos.router_faults[0] = [11.5, 12.0]
    chaos.judge(outcome)
    assert len(chaos.violations) == 1


def track(*, mib_per_sample: float = 0.0, fds_per_sample: float = 0.0) -> soak.Track:
    samples = [
        soak.Sample(
            at_s=10.0 * n,
            rss_bytes=int((40 + mib_per_sample * n) * MIB),
            fds=int(20 + fds_per_sample * n),
            cpu_s=0.05 * n,
        )
        for n in range(100)
    ]
    return soak.Track("router", psutil.Process(), samples)


@pytest.mark.parametrize(
    ("grows", "bad"),
    [({}, []), ({"mib_per_sample": 0.1}, ["memory"]), ({"fds_per_sample": 0.2}, ["fds"])],
    ids=["flat", "memory", "descriptors"],
)
def test_what_grows_is_not_flat(grows: dict[str, float], bad: list[str]) -> None:
    requests = [100 * n for n in range(100)]
    found = soak.judge(track(**grows), requests)
    assert [name for name, flat in found["flat"].items() if not flat] == bad


def test_what_costs_more_with_time_is_not_flat() -> None:
    requests = [int(100 * n - n * n * 0.4) for n in range(100)]
    assert not soak.judge(track(), requests)["flat"]["cpu"]
