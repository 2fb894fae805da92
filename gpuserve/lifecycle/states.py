"""Where one engine is in its life, what can happen to it, and what can be asked of the runner.

States carry what the next decision needs and nothing else. Conditions are properties of a
state, so nobody sets flags. Events are past participles, commands imperatives.
"""

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar


class After(Enum):
    """What an engine that is being ended is ended for."""

    STOP = "stop"
    RESTART = "restart"
    BACK_OFF = "back off"
    HOLD = "hold"  # drained for maintenance: the engine stays up and gets no requests


@dataclass(frozen=True, slots=True)
class _State:
    """Common to all states: how many failures in a row led here."""

    failures: int = 0

    routable: ClassVar[bool] = False  # the router may send requests
    probed: ClassVar[bool] = False  # the runner asks for health
    moves_memory: ClassVar[bool] = False  # its GPUs are closed to other starts
    alive: ClassVar[bool] = False  # there is a process
    wanted: ClassVar[bool] = True  # it should run, now or soon

    @property
    def name(self) -> str:
        """The word that `status` prints."""
        return type(self).__name__


@dataclass(frozen=True, slots=True)
class Stopped(_State):
    """The operator wants it so."""

    wanted: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Queued(_State):
    """Waits for its weights, for its turn at the gate, for memory."""


@dataclass(frozen=True, slots=True)
class Starting(_State):
    """The process loads; its port opens when it is done. Timer: start_timeout_s."""

    probed: ClassVar[bool] = True
    moves_memory: ClassVar[bool] = True
    alive: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Ready(_State):
    """Serves. Timer: the healthy period after which earlier failures are forgotten."""

    routable: ClassVar[bool] = True
    probed: ClassVar[bool] = True
    alive: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Unready(_State):
    """Was ready and says it is not. Timer: liveness_timeout_s, then it is replaced."""

    probed: ClassVar[bool] = True
    alive: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Draining(_State):
    """Gets no new requests; those in flight finish. Timer: drain_timeout_s, none for HOLD."""

    after: After = After.STOP
    alive: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Stopping(_State):
    """Was asked to end. Timer: stop_timeout_s."""

    after: After = After.STOP
    moves_memory: ClassVar[bool] = True
    alive: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Killing(_State):
    """SIGKILL was sent to everything that belongs to it. Timer: kill_timeout_s."""

    after: After = After.STOP
    moves_memory: ClassVar[bool] = True
    alive: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Unkillable(_State):
    """Survived SIGKILL: stuck in the kernel, most likely in the driver. No timer."""

    after: After = After.STOP
    moves_memory: ClassVar[bool] = True
    alive: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class BackingOff(_State):
    """Failed and will be tried again. Timer: the backoff."""


@dataclass(frozen=True, slots=True)
class Failed(_State):
    """Will not be tried again until the operator says so."""


State = (
    Stopped
    | Queued
    | Starting
    | Ready
    | Unready
    | Draining
    | Stopping
    | Killing
    | Unkillable
    | BackingOff
    | Failed
)
STATES: tuple[type[State], ...] = (
    Stopped,
    Queued,
    Starting,
    Ready,
    Unready,
    Draining,
    Stopping,
    Killing,
    Unkillable,
    BackingOff,
    Failed,
)


@dataclass(frozen=True, slots=True)
class StartRequested:
    """The operator, or `up`, wants it to run."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The operator wants it stopped."""


@dataclass(frozen=True, slots=True)
class RestartRequested:
    """The operator wants a new process."""


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """The operator wants it without requests, and up."""


@dataclass(frozen=True, slots=True)
class Hurried:
    """`down --now`: no draining, no asking."""


@dataclass(frozen=True, slots=True)
class EngineFound:
    """A new controller found its process running."""


@dataclass(frozen=True, slots=True)
class WeightsMissed:
    """The weights could not be fetched. `hopeless`: trying again changes nothing."""

    hopeless: bool = False


@dataclass(frozen=True, slots=True)
class GateOpened:
    """Its GPUs are free for its start."""


@dataclass(frozen=True, slots=True)
class ProbePassed:
    """It says that it is healthy."""


@dataclass(frozen=True, slots=True)
class ProbeMissed:
    """It says that it is dead, or refuses connections."""


@dataclass(frozen=True, slots=True)
class StallSeen:
    """Requests run and nothing has moved for liveness_timeout_s."""


@dataclass(frozen=True, slots=True)
class DrainEnded:
    """Nothing is in flight any more."""


@dataclass(frozen=True, slots=True)
class Exited:
    """Process and descendants are gone.

    `hopeless`: the same command would end the same way. `excused`: a neighbour spoiled the
    start, which says nothing about this engine. `looping`: it has ended too often within the hour.
    """

    hopeless: bool = False
    excused: bool = False
    looping: bool = False


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The state's one timer."""


Event = (
    StartRequested
    | StopRequested
    | RestartRequested
    | DrainRequested
    | Hurried
    | EngineFound
    | WeightsMissed
    | GateOpened
    | ProbePassed
    | ProbeMissed
    | StallSeen
    | DrainEnded
    | Exited
    | TimerFired
)
EVENTS: tuple[type[Event], ...] = (
    StartRequested,
    StopRequested,
    RestartRequested,
    DrainRequested,
    Hurried,
    EngineFound,
    WeightsMissed,
    GateOpened,
    ProbePassed,
    ProbeMissed,
    StallSeen,
    DrainEnded,
    Exited,
    TimerFired,
)


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start the process."""


@dataclass(frozen=True, slots=True)
class Terminate:
    """Ask the process to end (SIGTERM)."""


@dataclass(frozen=True, slots=True)
class Kill:
    """End the process and everything that belongs to it (SIGKILL)."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Set the state's timer. Leaving the state disarms it."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Disarm:
    """Drop the timer while staying in the state."""


Command = Spawn | Terminate | Kill | Arm | Disarm
