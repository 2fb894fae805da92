"""How far the estimates may be off: the one place that says what median and 95th percentile mean.

Every other figure of this package is the median. Weights and KV cache are exact arithmetic
when the checkpoint's tensors were summed; activation, graphs, libraries and context are
estimates that agree with the few start logs that state them (tests/unit/memory/test_start_logs).
The margin for them is a judgement, to be replaced by measurements on cards.
"""

from gpuserve.units import GIB

# Activation, graphs, non-torch and context together. The logs spread by 0.3 GiB in the context
# alone (0.3 to 0.6) and by 0.5 GiB in graphs of the same settings; both seldom miss at once.
_OVERHEAD_P95_BYTES = 6 * GIB // 10
# Computed weights against loaded ones: Qwen2.5-14B AWQ 9.30 computed, 9.38 GiB loaded; the
# other AWQ logs differ by 0.3 to 4 %, small models most.
_COMPUTED_WEIGHTS_P95 = 0.02
# A type whose layout is not known: biases, extra norms, towers that the formula leaves out.
_ESTIMATED_WEIGHTS_P95 = 0.15


def p95_margin_bytes(weights_bytes: int, *, exact: bool, estimated: bool) -> int:
    """Return how much more than the median an engine takes at the 95th percentile.

    `exact`: the weights are the sum of the checkpoint's tensors. `estimated`: the
    architecture is not among the known ones.
    """
    share = 0.0 if exact else _COMPUTED_WEIGHTS_P95
    if estimated:
        share = _ESTIMATED_WEIGHTS_P95
    return _OVERHEAD_P95_BYTES + int(weights_bytes * share)
