"""Why a state was entered, where whoever delivered the event did not say."""

from gpuserve.lifecycle.audit import Why
from gpuserve.lifecycle.states import (
    BackingOff,
    DrainEnded,
    Draining,
    DrainRequested,
    EngineFound,
    Event,
    Exited,
    GateOpened,
    Hurried,
    ProbePassed,
    RestartRequested,
    Starting,
    StartRequested,
    State,
    Stopping,
    StopRequested,
    TimerFired,
    Unready,
)
from gpuserve.lifecycle.step import Policy


def because(before: State, event: Event, policy: Policy) -> Why:
    """Return why *event* in the state *before* led to another state."""
    match event:
        case StartRequested() | StopRequested() | RestartRequested() | DrainRequested():
            return Why(cause="operator")
        case Hurried():
            return Why(cause="shutdown")
        case GateOpened():
            return Why(cause="gate")
        case EngineFound():
            return Why(text="its process was found running", cause="adoption")
        case ProbePassed():
            return Why(cause="healthy")
        case DrainEnded():
            return Why(text="nothing is in flight any more", cause="drained")
        case TimerFired() if isinstance(before, BackingOff):
            return Why(text="tried again", cause="backoff")
        case TimerFired():
            return Why(text=timeout_reason(before, policy), cause="timeout")
        case Exited():
            return Why(cause="asked")
    return Why()


def timeout_reason(before: State, policy: Policy) -> str | None:
    """Return whose patience has ended when the timer of the state *before* fires."""
    if isinstance(before, Starting):
        return f"not ready after {policy.start_timeout_s:g} s (start_timeout_s)"
    if isinstance(before, Unready):
        return f"unhealthy for {policy.liveness_timeout_s:g} s (liveness_timeout_s)"
    if isinstance(before, Draining):
        return f"requests were still in flight after {policy.drain_timeout_s:g} s"
    if isinstance(before, Stopping):
        return f"did not end within {policy.stop_timeout_s:g} s (stop_timeout_s)"
    return "survived SIGKILL: stuck in the kernel" if before.name == "Killing" else None
