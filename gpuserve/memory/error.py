"""How far the estimates may be off: the one place that says what median and 95th percentile mean.

Every other figure of this package is the median. The margins are the 95th percentiles that
`scripts/memory_accuracy` measures on published start logs (docs/memory-accuracy.md); a test holds
them to each other.
"""

from gpuserve.units import GIB

# Activation, graphs and libraries together: how much less cache than predicted vLLM had, over the
# logs whose card, fraction and model are known.
OVERHEAD_P95_BYTES = GIB // 2
# Computed weights against loaded ones, for architectures whose layout is known. With the
# checkpoint's own headers there is no such error.
COMPUTED_WEIGHTS_P95 = 0.011
# A type whose layout is not known: by how much the usual layout is too small for the families
# that are known, as if they were not.
ESTIMATED_WEIGHTS_P95 = 0.06


def p95_margin_bytes(
    weights_bytes: int, *, first_start_bytes: int = 0, exact: bool, estimated: bool
) -> int:
    """Return how much more than the median an engine takes at the 95th percentile.

    `first_start_bytes`: what a start without a compile cache is known to take besides. `exact`: the
    weights are the sum of the checkpoint's tensors. `estimated`: the architecture is not among the
    known ones.
    """
    share = 0.0 if exact else COMPUTED_WEIGHTS_P95
    if estimated:
        share = ESTIMATED_WEIGHTS_P95
    return max(OVERHEAD_P95_BYTES, first_start_bytes) + int(weights_bytes * share)
