"""How long to wait before an engine that failed is tried again."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffPolicy:
    """The first delay doubles with each failure in a row, up to `limit_s`."""

    first_s: float
    limit_s: float = 300.0

    def delay_s(self, failures: int) -> float:
        """Return the delay after *failures* (>= 1) failures in a row, in seconds."""
        return float(min(self.limit_s, self.first_s * 2.0 ** min(failures - 1, 30)))


def jittered(delay_s: float, chance: float) -> float:
    """Return *delay_s* up to a fifth shorter or longer; *chance* is 0 to 1."""
    return delay_s * (0.8 + 0.4 * chance)


HOUR_S = 3600.0


def within_the_hour(ends_unix_s: Sequence[float], now_unix_s: float) -> tuple[float, ...]:
    """Return those of *ends_unix_s* that lie in the hour before *now_unix_s*.

    A clock that was set back makes some lie in the future: they say nothing.
    """
    return tuple(at_s for at_s in ends_unix_s if 0.0 <= now_unix_s - at_s <= HOUR_S)
