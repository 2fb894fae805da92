"""The whole reachable life of an engine, walked instead of sampled."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from gpuserve.lifecycle import table
from gpuserve.lifecycle.backoff import BackoffPolicy
from gpuserve.lifecycle.states import (
    EVENTS,
    STATES,
    After,
    Arm,
    BackingOff,
    Disarm,
    DrainEnded,
    Draining,
    EngineFound,
    Event,
    Exited,
    GateOpened,
    Kill,
    ProbeMissed,
    ProbePassed,
    Queued,
    Ready,
    Spawn,
    StallSeen,
    Starting,
    StartRequested,
    State,
    Stopped,
    Stopping,
    StopRequested,
    Terminate,
    TimerFired,
    Unkillable,
    WeightsMissed,
)
from gpuserve.lifecycle.step import RULES, Policy, impossible, step

POLICY = Policy(
    start_timeout_s=9.0,
    drain_timeout_s=3.0,
    stop_timeout_s=1.0,
    liveness_timeout_s=6.0,
    backoff=BackoffPolicy(first_s=2.0),
    restart_limit=3,
)


@dataclass(frozen=True)
class World:
    """A state together with what the runner knows besides: a process, an armed timer."""

    state: State
    process: bool
    timer: bool


def events_for(world: World) -> Iterator[Event]:
    """Yield every event that the runner may deliver in *world*."""
    for kind in EVENTS:
        if RULES[type(world.state)][kind] is impossible:
            continue
        if kind is TimerFired and not world.timer:
            continue
        if kind is Exited and not world.process:
            continue
        if kind is EngineFound and world.process:
            continue
        yield from table.occurrences(kind)


def follow(world: World, event: Event) -> World:
    """Do what the runner does."""
    state, commands = step(world.state, event, POLICY)
    process = world.process
    timer = world.timer and not isinstance(event, TimerFired)
    if type(state) is not type(world.state):
        timer = False
    if isinstance(event, Exited):
        process = False
    if isinstance(event, EngineFound):
        process = True
    for command in commands:
        match command:
            case Spawn():
                assert not process, f"{world} spawned a second process on {event}"
                process = True
            case Terminate() | Kill():
                assert process, f"{world} signalled nobody on {event}"
            case Arm(delay_s):
                assert delay_s > 0
                timer = True
            case Disarm():
                timer = False
    return World(state, process, timer)


def reachable() -> dict[World, list[tuple[Event, World]]]:
    start = World(Stopped(), process=False, timer=False)
    found: dict[World, list[tuple[Event, World]]] = {}
    todo = [start]
    while todo:
        world = todo.pop()
        if world in found:
            continue
        found[world] = [(event, follow(world, event)) for event in events_for(world)]
        todo += [after for _, after in found[world]]
    return found


WORLDS = reachable()


def test_every_pair_of_state_and_event_is_written_down() -> None:
    assert set(RULES) == set(STATES)
    for state in STATES:
        assert set(RULES[state]) == set(EVENTS), state


def test_every_state_is_reachable() -> None:
    assert {type(world.state) for world in WORLDS} == set(STATES)


def test_a_state_says_alive_exactly_when_there_is_a_process() -> None:
    assert [w for w in WORLDS if w.process != w.state.alive] == []


def test_a_state_that_waits_for_time_has_a_timer() -> None:
    timeless = ("Stopped", "Queued", "Ready", "Failed", "Unkillable")
    stuck = [
        world
        for world in WORLDS
        if world.state.name not in timeless
        and not world.timer
        and not (isinstance(world.state, Draining) and world.state.after is After.HOLD)
    ]
    assert stuck == []


def test_impossible_events_change_nothing() -> None:
    for kind in STATES:
        for state in table.samples(kind):
            for event_kind in EVENTS:
                if RULES[kind][event_kind] is impossible:
                    for event in table.occurrences(event_kind):
                        assert step(state, event, POLICY) == (state, ())


def test_from_everywhere_a_stop_ends_in_stopped() -> None:
    """Whatever has happened: a stop, timers and the end of the process lead to Stopped."""

    for world in WORLDS:
        now = follow(world, StopRequested())
        for _ in range(10):
            if isinstance(now.state, Stopped):
                break
            if isinstance(now.state, Unkillable) or (now.process and not now.timer):
                now = follow(now, Exited())
            elif now.timer:
                now = follow(now, TimerFired())
            else:
                pytest.fail(f"{world} is stuck in {now}")
        assert isinstance(now.state, Stopped), world


def test_from_everywhere_a_start_can_end_in_ready() -> None:

    for world in WORLDS:
        now = follow(world, StartRequested())
        for _ in range(10):
            if isinstance(now.state, Ready):
                break
            match now.state.name:
                case "Queued":
                    now = follow(now, GateOpened())
                case "Starting" | "Unready":
                    now = follow(now, ProbePassed())
                case "Draining":
                    now = follow(now, DrainEnded())
                case "BackingOff":
                    now = follow(now, TimerFired())
                case _:
                    now = follow(now, Exited())
        assert isinstance(now.state, Ready), world


def test_an_engine_that_always_fails_ends_in_failed_after_the_limit() -> None:
    state: State = Queued()
    for failure in range(1, POLICY.restart_limit + 1):
        state, _ = step(state, GateOpened(), POLICY)
        state, commands = step(state, Exited(), POLICY)
        if failure < POLICY.restart_limit:
            assert commands == (Arm(2.0 * 2 ** (failure - 1)),)
            state, _ = step(state, TimerFired(), POLICY)
    assert state.name == "Failed"


def test_a_hopeless_end_is_not_tried_again() -> None:
    assert step(Starting(), Exited(hopeless=True), POLICY)[0].name == "Failed"
    assert step(Queued(), WeightsMissed(hopeless=True), POLICY)[0].name == "Failed"


def test_failures_are_forgotten_after_a_healthy_period() -> None:
    assert step(Ready(2), TimerFired(), POLICY) == (Ready(0), ())


def test_a_probe_that_misses_while_loading_means_nothing() -> None:
    assert step(Starting(1), ProbeMissed(), POLICY) == (Starting(1), ())


def test_an_engine_that_stalls_is_replaced() -> None:
    state, commands = step(Ready(), StallSeen(), POLICY)
    assert commands == (Terminate(), Arm(1.0))
    assert step(state, Exited(), POLICY)[0].name == "BackingOff"


def test_a_drained_engine_stays_up_until_it_is_started_again() -> None:
    held = Draining(0, After.HOLD)
    assert step(held, DrainEnded(), POLICY) == (held, ())

    assert step(held, StartRequested(), POLICY)[0] == Ready(0)


def test_the_backoff_doubles_up_to_its_limit() -> None:
    policy = BackoffPolicy(first_s=2.0, limit_s=300.0)
    assert [policy.delay_s(n) for n in (1, 2, 3, 8, 9, 10_000)] == [2, 4, 8, 256, 300, 300]


def test_the_table_names_every_state_and_event() -> None:
    text = table.markdown()
    for kind in (*STATES, *EVENTS):
        assert kind.__name__ in text


def test_a_later_request_wins_while_the_engine_is_ending() -> None:

    for after in After:
        stopping = Stopping(0, after)
        assert step(stopping, StopRequested(), POLICY)[0] == replace(stopping, after=After.STOP)
        assert step(stopping, StartRequested(), POLICY)[0] == replace(stopping, after=After.RESTART)


def test_a_network_that_is_away_never_fails_a_model() -> None:
    state: State = Queued(POLICY.restart_limit - 1)
    for _ in range(20):
        state, commands = step(state, WeightsMissed(), POLICY)
        assert commands == (Arm(POLICY.fetch_again_s),)
        state, _ = step(state, TimerFired(), POLICY)
        assert state == Queued(POLICY.restart_limit - 1)


def test_a_start_that_a_neighbour_spoiled_is_not_counted() -> None:
    state, _ = step(Starting(POLICY.restart_limit - 1), Exited(excused=True), POLICY)
    assert state == BackingOff(POLICY.restart_limit - 1)


def test_a_held_engine_that_dies_does_not_come_back_with_traffic() -> None:
    assert step(Draining(0, After.HOLD), Exited(), POLICY) == (Stopped(), ())


def test_an_engine_that_ends_too_often_within_the_hour_is_given_up_however_it_ends() -> None:
    for state in (Starting(), Ready(), Stopping(0, After.BACK_OFF), Draining(0, After.BACK_OFF)):
        assert step(state, Exited(looping=True), POLICY)[0].name == "Failed"
    assert step(Starting(), Exited(excused=True, looping=True), POLICY)[0].name == "Failed"
    assert step(Stopping(0, After.STOP), Exited(looping=True), POLICY)[0] == Stopped()
