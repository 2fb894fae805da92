"""Which earlier reading of free memory tells whether it has settled."""

from dataclasses import dataclass

# Memory has settled if it is the same over about this long.
APART_S = 0.8
# Two readings further apart than this say nothing about the time between.
STALE_S = 5.0


@dataclass(frozen=True, slots=True)
class Look:
    """Free memory of one device as it was read at one moment (monotonic)."""

    at_s: float
    free_bytes: int


def compare(earlier: Look | None, now: Look) -> tuple[Look, int | None]:
    """Return the look to keep for the next time, and the bytes to compare *now* with.

    None: there is nothing to compare with yet. A look a moment after *earlier*, as a wake
    brings it, is compared with nothing, and does not replace it.
    """
    if earlier is None or now.at_s - earlier.at_s > STALE_S:
        return now, None
    if now.at_s - earlier.at_s < APART_S:
        return earlier, None
    return now, earlier.free_bytes
