"""Tells wedged from busy from idle, from what an engine says and what it does.

`/health` alone lies both ways: vLLM answers 200 while its engine hangs (the route asks only
whether the engine was marked dead) and does not answer at all while one long step keeps the
event loop busy. So what counts is progress: a change in any of the engine's counters.
"""

from dataclasses import dataclass, replace
from typing import Literal

# The first request after a start may compile kernels for minutes.
FIRST_REQUEST_S = 300.0
# Where /metrics does not answer either, a busy event loop is as likely as a dead one.
SILENT_FACTOR = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One probe of one engine at `at_s` (monotonic).

    `health` is what `/health` did: "ok", "dead" (an error status), "refused" (nothing
    listens) or "silent" (no answer in time). `progress` are counters that change when the
    engine works, None when /metrics did not answer or has none. `running` counts the
    requests in the engine by its own word, which comes with the output of a step: an idle
    engine whose first step hangs still says 0. So `in_flight` counts those that the router has
    sent it, and `received_bytes` what the router has had back.
    """

    at_s: float
    health: Literal["ok", "dead", "refused", "silent"]
    progress: tuple[float, ...] | None = None
    running: int = 0
    in_flight: int = 0
    received_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What is remembered of an engine between probes."""

    moved_s: float  # when progress was seen last, or there was nothing to do
    progress: tuple[float, ...] | None = None
    received_bytes: int = 0
    served: bool = False  # it has made progress at least once since it started
    answered_s: float = 0.0  # when it answered anything last


Finding = Literal["passed", "missed", "stalled", "unsure"]


def observe(watch: Watch, reading: Reading, timeout_s: float) -> tuple[Watch, Finding]:
    """Return what to remember and what this reading says.

    "stalled": requests run and nothing has changed for *timeout_s* (five times that when
    /metrics is silent, FIRST_REQUEST_S before the first progress). "missed": the engine says
    that it is dead, nothing listens, or it has nothing to do and has not answered for
    *timeout_s*. "unsure": it does not answer, which a long step explains as well as a hang.
    """
    busy = reading.running > 0 or reading.in_flight > 0
    answered = reading.received_bytes != watch.received_bytes
    counted = reading.progress is not None and reading.progress != watch.progress
    moved = answered or counted
    served = watch.served or answered or (counted and watch.progress is not None)
    watch = replace(
        watch,
        progress=watch.progress if reading.progress is None else reading.progress,
        received_bytes=reading.received_bytes,
        served=served,
    )
    if moved or not busy:
        watch = replace(watch, moved_s=reading.at_s)
    if reading.health != "silent" or reading.progress is not None:
        watch = replace(watch, answered_s=reading.at_s)
    if reading.health in ("dead", "refused"):
        return watch, "missed"
    if not busy and reading.at_s - watch.answered_s >= timeout_s:
        return watch, "missed"
    patience_s = timeout_s if watch.served else max(timeout_s, FIRST_REQUEST_S)
    if reading.progress is None:
        patience_s *= SILENT_FACTOR
    if busy and reading.at_s - watch.moved_s >= patience_s:
        return watch, "stalled"
    return watch, "passed" if reading.health == "ok" else "unsure"
