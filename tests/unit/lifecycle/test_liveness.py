"""Wedged is told from busy and from idle by progress, not by /health."""

from collections.abc import Callable
from typing import Literal

from gpuserve.lifecycle.liveness import Finding, Reading, Watch, observe

Health = Literal["ok", "dead", "refused", "silent"]
LIMIT_S = 60.0


def play(*readings: Reading, served: bool = True) -> list[Finding]:
    watch = Watch(moved_s=0.0, answered_s=0.0, served=served, progress=(0.0,))
    found = []
    for reading in readings:
        watch, finding = observe(watch, reading, LIMIT_S)
        found.append(finding)
    return found


def at(
    s: float,
    health: Health = "ok",
    *,
    tokens: float | None = 0.0,
    running: int = 0,
    in_flight: int = 0,
    received: int = 0,
) -> Reading:
    return Reading(
        at_s=s,
        health=health,
        progress=None if tokens is None else (tokens,),
        running=running,
        in_flight=in_flight,
        received_bytes=received,
    )


def test_an_idle_engine_is_healthy_for_ever() -> None:
    assert play(at(10), at(1000), at(100_000)) == ["passed"] * 3


def test_requests_that_run_without_progress_are_a_stall_though_health_says_ok() -> None:
    assert play(at(10), at(12, running=1), at(69, running=1), at(70.1, running=1)) == [
        "passed",
        "passed",
        "passed",
        "stalled",
    ]


def test_a_long_prefill_that_moves_any_counter_is_no_stall() -> None:
    readings = [at(50.0 * n, tokens=float(n), running=1) for n in range(1, 20)]
    assert play(*readings) == ["passed"] * 19


def test_the_first_request_after_a_start_has_time_to_compile() -> None:
    readings = (at(10, running=1), at(200, running=1), at(311, running=1))
    assert play(*readings, served=False) == ["passed", "passed", "stalled"]


def test_a_busy_engine_that_answers_nothing_gets_five_times_as_long() -> None:
    readings = (
        at(0.0, running=1),
        at(200, "silent", tokens=None, in_flight=1),
        at(301, "silent", tokens=None, in_flight=1),
    )
    assert play(*readings) == ["passed", "unsure", "stalled"]


def test_an_idle_engine_that_answers_nothing_is_missed_after_the_limit() -> None:
    readings = (at(10, "silent", tokens=None), at(61, "silent", tokens=None))
    assert play(*readings) == ["unsure", "missed"]


def test_a_dead_engine_and_a_closed_port_are_missed_at_once() -> None:
    assert play(at(1, "dead"), at(2, "refused", tokens=None)) == ["missed", "missed"]


def test_a_first_step_that_hangs_is_seen_by_what_the_router_has_in_flight() -> None:
    """The engine's own gauges come with a step's output, so they still say 0."""
    assert play(at(10), at(12, in_flight=1), at(73, in_flight=1)) == ["passed", "passed", "stalled"]


def test_bytes_that_the_router_receives_are_progress() -> None:
    readings = [at(50.0 * n, "silent", tokens=None, in_flight=1, received=n) for n in range(1, 20)]
    assert "stalled" not in play(*readings)


def probed(engine: Callable[[float], Reading], until_s: float) -> list[tuple[float, Finding]]:
    """Probe *engine*, a function of a clock that costs no time, every 2.5 s."""
    watch = Watch(moved_s=0.0, answered_s=0.0, served=True, progress=engine(0.0).progress)
    found = []
    for tick in range(1, int(until_s / 2.5) + 1):
        watch, finding = observe(watch, engine(tick * 2.5), LIMIT_S)
        found.append((tick * 2.5, finding))
    return found


def prefill(chunk_s: float, hangs_at_s: float) -> Callable[[float], Reading]:
    """An engine in one long prefill: vLLM counts tokens with a step's first output only, so it is
    the use of the KV cache alone that grows, with each chunk (v1/engine/async_llm.py 0.32)."""

    def engine(s: float) -> Reading:
        chunks = int(min(s, hangs_at_s) / chunk_s)
        return Reading(
            at_s=s, health="ok", progress=(7.0, 1.0, chunks / 1000), running=1, in_flight=1
        )

    return engine


def test_ten_minutes_of_prefill_are_no_stall_and_a_step_that_hangs_after_them_is() -> None:
    found = probed(prefill(chunk_s=20.0, hangs_at_s=600.0), 800.0)
    stalls = [at_s for at_s, finding in found if finding == "stalled"]
    assert stalls
    assert 600.0 + LIMIT_S <= stalls[0] <= 600.0 + LIMIT_S + 5.0


def test_one_step_longer_than_the_limit_counts_as_a_stall() -> None:
    """What cannot be told apart: the page for operators says when to raise liveness_timeout_s."""
    assert "stalled" in dict(probed(prefill(chunk_s=90.0, hangs_at_s=900.0), 300.0)).values()


def test_an_event_loop_that_is_busy_for_four_minutes_is_no_stall() -> None:
    def engine(s: float) -> Reading:
        busy = 20.0 < s < 260.0
        return Reading(
            at_s=s,
            health="silent" if busy else "ok",
            progress=None if busy else (s,),
            running=0 if busy else 1,
            in_flight=1,
        )

    assert {finding for _, finding in probed(engine, 400.0)} == {"passed", "unsure"}
