"""The transition table for people, made by asking `step` itself."""

from gpuserve.lifecycle.backoff import BackoffPolicy
from gpuserve.lifecycle.states import (
    EVENTS,
    STATES,
    After,
    Arm,
    Disarm,
    Draining,
    Event,
    Exited,
    Kill,
    Killing,
    Spawn,
    State,
    Stopping,
    Terminate,
    Unkillable,
    WeightsMissed,
)
from gpuserve.lifecycle.step import RULES, Policy, impossible, step

_POLICY = Policy(
    start_timeout_s=900,
    drain_timeout_s=30,
    stop_timeout_s=10,
    liveness_timeout_s=60,
    backoff=BackoffPolicy(first_s=2),
    restart_limit=2,
)
_WORDS = {Spawn: "spawn", Terminate: "SIGTERM", Kill: "SIGKILL", Arm: "timer", Disarm: "no timer"}


def samples(kind: type[State]) -> tuple[State, ...]:
    """Return a state of *kind* for each way its fields can matter to a decision."""
    failures = (0, _POLICY.restart_limit - 1)
    if issubclass(kind, Draining | Stopping | Killing | Unkillable):
        return tuple(kind(n, after) for n in failures for after in After)
    return tuple(kind(n) for n in failures)


def occurrences(kind: type[Event]) -> tuple[Event, ...]:
    """Return an event of *kind* for each way its fields can matter."""
    if issubclass(kind, Exited):
        return (kind(), kind(hopeless=True), kind(excused=True), kind(looping=True))
    if issubclass(kind, WeightsMissed):
        return (kind(), kind(hopeless=True))
    return (kind(),)


def cell(state: type[State], event: type[Event]) -> str:
    """Return where *event* leads from *state*: "" impossible, "·" ignored, else the outcomes."""
    if RULES[state][event] is impossible:
        return ""
    outcomes: list[str] = []
    for before in samples(state):
        for happened in occurrences(event):
            after, commands = step(before, happened, _POLICY)
            if after == before and not commands:
                continue
            acts = ", ".join(_WORDS[type(command)] for command in commands)
            text = after.name + (f" ({acts})" if acts else "")
            if text not in outcomes:
                outcomes.append(text)
    return " / ".join(outcomes) or "·"


def markdown() -> str:
    """Return the whole table as Markdown, a row per event and a column per state."""
    names = [state.__name__ for state in STATES]
    lines = ["| event | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for event in EVENTS:
        cells = (cell(state, event) for state in STATES)
        lines.append(f"| **{event.__name__}** | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
