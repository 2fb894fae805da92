"""From what a profile and a plan say to what lifecycle, gate and routing table need. Pure."""

from dataclasses import replace

from gpuserve.lifecycle.backoff import BackoffPolicy
from gpuserve.lifecycle.gate import Waiter
from gpuserve.lifecycle.states import BackingOff, Failed, Queued, Starting, State, Stopped
from gpuserve.lifecycle.step import Policy
from gpuserve.plan import Launch
from gpuserve.profile.spec import Patience

# What a client is told where nothing better is known.
RETRY_AFTER_S = 10.0


def policy_of(patience: Patience) -> Policy:
    """Return the lifecycle's policy for an engine."""
    return Policy(
        start_timeout_s=patience.start_timeout_s,
        drain_timeout_s=patience.drain_timeout_s,
        stop_timeout_s=patience.stop_timeout_s,
        liveness_timeout_s=patience.liveness_timeout_s,
        backoff=BackoffPolicy(first_s=patience.restart_backoff_s),
        restart_limit=patience.restart_limit,
        hourly_limit=patience.hourly_restart_limit,
        # A download is tried again at leisure: 30 s where the profile says nothing.
        fetch_again_s=15 * patience.restart_backoff_s,
    )


def on_trial(policy: Policy) -> Policy:
    """Return the policy of an engine that has a way back: it is taken after one failure."""
    return replace(policy, restart_limit=1)


def waiter_of(launch: Launch) -> Waiter:
    """Return what the gate must find free before this engine starts."""
    return Waiter(name=launch.name, needs=tuple(zip(launch.gate, launch.gate_needs, strict=True)))


def retry_after_s(state: State, in_state_s: float, last_start_s: float | None) -> float | None:
    """Return when a client may try again, in seconds, or None if waiting does not help."""
    if isinstance(state, Failed | Stopped):
        return None
    if isinstance(state, Starting) and last_start_s is not None:
        return max(1.0, last_start_s - in_state_s)
    if isinstance(state, Starting | Queued | BackingOff):
        return RETRY_AFTER_S
    return 2.0
