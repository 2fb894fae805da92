"""What follows when an event meets a state: `step(state, event, policy)`.

Every pair of state and event is written down below, so nothing happens by omission: a pair
either has a rule, or is IGNORED (it may arrive and changes nothing), or is IMPOSSIBLE (the
runner never delivers it; `step` then leaves the state as it is).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from gpuserve.lifecycle.backoff import BackoffPolicy
from gpuserve.lifecycle.states import (
    After,
    Arm,
    BackingOff,
    Command,
    Disarm,
    DrainEnded,
    Draining,
    DrainRequested,
    EngineFound,
    Event,
    Exited,
    Failed,
    GateOpened,
    Hurried,
    Kill,
    Killing,
    ProbeMissed,
    ProbePassed,
    Queued,
    Ready,
    RestartRequested,
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
    Unready,
    WeightsMissed,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The patience of one engine, in seconds, and how many failures in a row it may have."""

    start_timeout_s: float
    drain_timeout_s: float
    stop_timeout_s: float
    liveness_timeout_s: float
    backoff: BackoffPolicy
    restart_limit: int
    hourly_limit: int = 20
    # The kernel ends a process that can be ended within milliseconds, a CUDA context of 100 GiB
    # within seconds; after this it hangs in the driver.
    kill_timeout_s: float = 15.0
    healthy_after_s: float = 60.0
    fetch_again_s: float = 30.0


Outcome = tuple[State, tuple[Command, ...]]
Rule = Callable[[State, Event, Policy], Outcome]


def step(state: State, event: Event, policy: Policy) -> Outcome:
    """Return the state that follows and the commands to carry out, in order."""
    return RULES[type(state)][type(event)](state, event, policy)


def ignored(state: State, event: Event, policy: Policy) -> Outcome:  # noqa: ARG001
    """Change nothing: the event may arrive in this state and means nothing there."""
    return state, ()


def impossible(state: State, event: Event, policy: Policy) -> Outcome:  # noqa: ARG001
    """Change nothing: the runner never delivers this event in this state."""
    return state, ()


def _queue(state: State, _event: Event, _policy: Policy) -> Outcome:
    return Queued(state.failures), ()


def _queue_afresh(_state: State, _event: Event, _policy: Policy) -> Outcome:
    return Queued(0), ()


def _stopped(_state: State, _event: Event, _policy: Policy) -> Outcome:
    return Stopped(), ()


def _adopt(_state: State, _event: Event, policy: Policy) -> Outcome:
    return Starting(0), (Arm(policy.start_timeout_s),)


def _spawn(state: State, _event: Event, policy: Policy) -> Outcome:
    return Starting(state.failures), (Spawn(), Arm(policy.start_timeout_s))


def _ready(state: State, _event: Event, policy: Policy) -> Outcome:
    return Ready(state.failures), (Arm(policy.healthy_after_s),)


def _forget_failures(_state: State, _event: Event, _policy: Policy) -> Outcome:
    return Ready(0), ()


def _unready(state: State, _event: Event, policy: Policy) -> Outcome:
    return Unready(state.failures), (Arm(policy.liveness_timeout_s),)


def _drain_for(after: After) -> Rule:
    def rule(state: State, _event: Event, policy: Policy) -> Outcome:
        timer = Disarm() if after is After.HOLD else Arm(policy.drain_timeout_s)
        return Draining(state.failures, after), (timer,)

    return rule


def _terminate_for(after: After) -> Rule:
    def rule(state: State, _event: Event, policy: Policy) -> Outcome:
        return _terminate(state.failures, after, policy)

    return rule


def _terminate(failures: int, after: After, policy: Policy) -> Outcome:
    return Stopping(failures, after), (Terminate(), Arm(policy.stop_timeout_s))


def _kill(state: State, _event: Event, policy: Policy) -> Outcome:
    after = getattr(state, "after", After.BACK_OFF)
    return Killing(state.failures, after), (Kill(), Arm(policy.kill_timeout_s))


def _kill_for_stop(state: State, _event: Event, policy: Policy) -> Outcome:
    return Killing(state.failures, After.STOP), (Kill(), Arm(policy.kill_timeout_s))


def _unkillable(state: State, _event: Event, _policy: Policy) -> Outcome:
    return Unkillable(state.failures, getattr(state, "after", After.BACK_OFF)), ()


def _want(after: After) -> Rule:
    """The engine is on its way out already: the last request of the operator wins."""

    def rule(state: State, _event: Event, _policy: Policy) -> Outcome:
        assert isinstance(state, Stopping | Killing | Unkillable)  # noqa: S101 - for mypy
        return replace(state, after=after), ()

    return rule


def _drained(state: State, _event: Event, policy: Policy) -> Outcome:
    assert isinstance(state, Draining)  # noqa: S101 - for mypy
    if state.after is After.HOLD:
        return state, ()
    return _terminate(state.failures, state.after, policy)


def _drain_limit(state: State, _event: Event, policy: Policy) -> Outcome:
    assert isinstance(state, Draining)  # noqa: S101 - for mypy
    return _terminate(state.failures, state.after, policy)


def _undrain(state: State, _event: Event, policy: Policy) -> Outcome:
    """A start request brings a drained engine back; one that drains to be restarted goes on."""
    if isinstance(state, Draining) and state.after is After.RESTART:
        return state, ()
    return Ready(state.failures), (Arm(policy.healthy_after_s),)


def _failed(state: State, event: Event, policy: Policy) -> Outcome:
    """The process ended unasked: try again after a while, or give up."""
    looping = isinstance(event, Exited) and event.looping
    if isinstance(event, Exited) and event.excused and not looping:
        return BackingOff(state.failures), (Arm(policy.backoff.delay_s(1)),)
    failures = state.failures + 1
    hopeless = isinstance(event, Exited | WeightsMissed) and event.hopeless
    if hopeless or looping or failures >= policy.restart_limit:
        return Failed(failures), ()
    return BackingOff(failures), (Arm(policy.backoff.delay_s(failures)),)


def _gone(state: State, event: Event, policy: Policy) -> Outcome:
    """The process ended because it was asked to."""
    after = getattr(state, "after", After.BACK_OFF)
    if after in (After.STOP, After.HOLD):
        return Stopped(), ()
    if after is After.RESTART:
        return Queued(0), ()
    looping = isinstance(event, Exited) and event.looping
    return _failed(state, Exited(looping=looping), policy)


def _without_weights(state: State, event: Event, policy: Policy) -> Outcome:
    """A network that is away comes back some time: only what is hopeless counts."""
    if isinstance(event, WeightsMissed) and event.hopeless:
        return _failed(state, event, policy)
    return BackingOff(state.failures), (Arm(policy.fetch_again_s),)


RULES: dict[type[State], dict[type[Event], Rule]] = {
    Stopped: {
        StartRequested: _queue_afresh,
        StopRequested: ignored,
        RestartRequested: _queue_afresh,
        DrainRequested: ignored,
        Hurried: ignored,
        EngineFound: _adopt,
        WeightsMissed: impossible,
        GateOpened: impossible,
        ProbePassed: impossible,
        ProbeMissed: impossible,
        StallSeen: impossible,
        DrainEnded: impossible,
        Exited: impossible,
        TimerFired: impossible,
    },
    Queued: {
        StartRequested: ignored,
        StopRequested: _stopped,
        RestartRequested: ignored,
        DrainRequested: ignored,
        Hurried: _stopped,
        EngineFound: impossible,
        WeightsMissed: _without_weights,
        GateOpened: _spawn,
        ProbePassed: impossible,
        ProbeMissed: impossible,
        StallSeen: impossible,
        DrainEnded: impossible,
        Exited: impossible,
        TimerFired: impossible,
    },
    Starting: {
        StartRequested: ignored,
        StopRequested: _terminate_for(After.STOP),
        RestartRequested: _terminate_for(After.RESTART),
        DrainRequested: ignored,
        Hurried: _kill_for_stop,
        EngineFound: impossible,
        WeightsMissed: impossible,
        GateOpened: impossible,
        ProbePassed: _ready,
        ProbeMissed: ignored,  # its port opens only when loading is over
        StallSeen: ignored,
        DrainEnded: impossible,
        Exited: _failed,
        TimerFired: _terminate_for(After.BACK_OFF),
    },
    Ready: {
        StartRequested: ignored,
        StopRequested: _drain_for(After.STOP),
        RestartRequested: _drain_for(After.RESTART),
        DrainRequested: _drain_for(After.HOLD),
        Hurried: _kill_for_stop,
        EngineFound: impossible,
        WeightsMissed: impossible,
        GateOpened: impossible,
        ProbePassed: ignored,
        ProbeMissed: _unready,
        StallSeen: _terminate_for(After.BACK_OFF),
        DrainEnded: impossible,
        Exited: _failed,
        TimerFired: _forget_failures,
    },
    Unready: {
        StartRequested: ignored,
        StopRequested: _drain_for(After.STOP),
        RestartRequested: _drain_for(After.RESTART),
        DrainRequested: ignored,
        Hurried: _kill_for_stop,
        EngineFound: impossible,
        WeightsMissed: impossible,
        GateOpened: impossible,
        ProbePassed: _ready,
        ProbeMissed: ignored,
        StallSeen: _terminate_for(After.BACK_OFF),
        DrainEnded: impossible,
        Exited: _failed,
        TimerFired: _terminate_for(After.BACK_OFF),
    },
    Draining: {
        StartRequested: _undrain,
        StopRequested: _drain_for(After.STOP),
        RestartRequested: _drain_for(After.RESTART),
        DrainRequested: _drain_for(After.HOLD),
        Hurried: _kill_for_stop,
        EngineFound: impossible,
        WeightsMissed: impossible,
        GateOpened: impossible,
        ProbePassed: impossible,
        ProbeMissed: impossible,
        StallSeen: impossible,
        DrainEnded: _drained,
        Exited: _gone,  # also where it was to be held: the operator wants no requests there
        TimerFired: _drain_limit,
    },
    Stopping: {
        StartRequested: _want(After.RESTART),
        StopRequested: _want(After.STOP),
        RestartRequested: _want(After.RESTART),
        DrainRequested: ignored,
        Hurried: _kill_for_stop,
        EngineFound: impossible,
        WeightsMissed: impossible,
        GateOpened: impossible,
        ProbePassed: impossible,
        ProbeMissed: impossible,
        StallSeen: impossible,
        DrainEnded: impossible,
        Exited: _gone,
        TimerFired: _kill,
    },
    Killing: {
        StartRequested: _want(After.RESTART),
        StopRequested: _want(After.STOP),
        RestartRequested: _want(After.RESTART),
        DrainRequested: ignored,
        Hurried: _want(After.STOP),
        EngineFound: impossible,
        WeightsMissed: impossible,
        GateOpened: impossible,
        ProbePassed: impossible,
        ProbeMissed: impossible,
        StallSeen: impossible,
        DrainEnded: impossible,
        Exited: _gone,
        TimerFired: _unkillable,
    },
    Unkillable: {
        StartRequested: _want(After.RESTART),
        StopRequested: _want(After.STOP),
        RestartRequested: _want(After.RESTART),
        DrainRequested: ignored,
        Hurried: _want(After.STOP),
        EngineFound: impossible,
        WeightsMissed: impossible,
        GateOpened: impossible,
        ProbePassed: impossible,
        ProbeMissed: impossible,
        StallSeen: impossible,
        DrainEnded: impossible,
        Exited: _gone,
        TimerFired: impossible,
    },
    BackingOff: {
        StartRequested: _queue_afresh,
        StopRequested: _stopped,
        RestartRequested: _queue_afresh,
        DrainRequested: ignored,
        Hurried: _stopped,
        EngineFound: impossible,
        WeightsMissed: impossible,
        GateOpened: impossible,
        ProbePassed: impossible,
        ProbeMissed: impossible,
        StallSeen: impossible,
        DrainEnded: impossible,
        Exited: impossible,
        TimerFired: _queue,
    },
    Failed: {
        StartRequested: _queue_afresh,
        StopRequested: _stopped,
        RestartRequested: _queue_afresh,
        DrainRequested: ignored,
        Hurried: _stopped,
        EngineFound: impossible,
        WeightsMissed: impossible,
        GateOpened: impossible,
        ProbePassed: impossible,
        ProbeMissed: impossible,
        StallSeen: impossible,
        DrainEnded: impossible,
        Exited: impossible,
        TimerFired: impossible,
    },
}
