"""How long an instance may take to stop, against what systemd grants it.

An engine drains and is stopped, the keeper and the router after it; all engines at once.
"""

import math

from gpuserve.errors import Problem
from gpuserve.keeperconf import ROUTER_STOP_S, STOP_MARGIN_S
from gpuserve.profile.spec import Patience, Profile

# TimeoutStopSec of systemd/gpuserve.service; after it systemd kills what is left.
UNIT_STOP_S = 90


def stop_s(patience: Patience) -> float:
    """Return how long an instance whose most patient engine this is may take to stop."""
    return patience.drain_timeout_s + patience.stop_timeout_s + STOP_MARGIN_S + ROUTER_STOP_S


def stop_time_caution(profile: Profile) -> Problem | None:
    """Return a warning if the shipped unit would cut the drain of the most patient model short."""
    slowest = max(profile.models, key=lambda model: stop_s(model.patience), default=None)
    if slowest is None or stop_s(slowest.patience) <= UNIT_STOP_S:
        return None
    patience = slowest.patience
    return Problem(
        where=f"model[{slowest.index}]",
        message=f'"{slowest.name}" may drain for {patience.drain_timeout_s:g} s and stop for '
        f"{patience.stop_timeout_s:g} s, which is more than systemd/gpuserve.service waits for "
        f"(TimeoutStopSec={UNIT_STOP_S})",
        hint="under systemd raise TimeoutStopSec to "
        f"{math.ceil(stop_s(patience))}; elsewhere nothing has to change",
        warning=True,
    )
