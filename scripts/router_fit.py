"""A linear classifier fitted in pure Python: the same bits on every machine, no package needed.

L2-regularised squared-hinge loss by dual coordinate descent: Hsieh, Chang, Lin, Keerthi and
Sundararajan, "A Dual Coordinate Descent Method for Large-scale Linear SVM", ICML 2008 (algorithm 1
with the shrinking left out). It adds, multiplies and divides, and calls no library whose last bit
differs between machines. Probabilities come after it, by Platt's scaling: Lin, Lin and Weng, "A
Note on Platt's Probabilistic Outputs for Support Vector Machines", 2007.
"""

import math
from collections.abc import Sequence

Example = Sequence[tuple[int, float]]  # (feature, value), each feature once

_EPOCHS = 60
_TOLERANCE = 0.02  # LIBLINEAR's default is 0.1
_PLATT_STEPS = 100


def fitted(
    examples: Sequence[Example], positive: Sequence[bool], costs: Sequence[float], features: int
) -> list[float]:
    """Return a weight per feature, the last one for a constant 1 that every example has.

    *costs* says what an error on each example costs: C times its weight.
    """
    weights = [0.0] * (features + 1)
    alphas = [0.0] * len(examples)
    signs = [1.0 if is_code else -1.0 for is_code in positive]
    softness = [0.5 / cost for cost in costs]
    squares = [1.0 + sum(v * v for _, v in x) + s for x, s in zip(examples, softness, strict=True)]
    for epoch in range(_EPOCHS):
        worst = 0.0
        for i in _order(len(examples), epoch):
            x, sign, alpha = examples[i], signs[i], alphas[i]
            margin = weights[features]
            for feature, value in x:
                margin += weights[feature] * value
            gradient = sign * margin - 1.0 + softness[i] * alpha
            projected = min(gradient, 0.0) if alpha == 0.0 else gradient
            if projected == 0.0:
                continue
            worst = max(worst, abs(projected))
            alphas[i] = max(0.0, alpha - gradient / squares[i])
            step = (alphas[i] - alpha) * sign
            weights[features] += step
            for feature, value in x:
                weights[feature] += step * value
        if worst < _TOLERANCE:
            break
    return weights


def margins(examples: Sequence[Example], weights: Sequence[float]) -> list[float]:
    """Return the margin of each of *examples*: above zero is code."""
    return [weights[-1] + sum(weights[f] * v for f, v in x) for x in examples]


def _order(count: int, epoch: int) -> list[int]:
    """Return 0 … count-1 in an order that looks random and depends on *epoch* alone."""
    # A linear congruential generator (Knuth's MMIX constants) and the sort of its numbers.
    state = (epoch + 1) * 0x9E3779B97F4A7C15 & (2**64 - 1)
    keys = []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        keys.append(state >> 20)
    return sorted(range(count), key=keys.__getitem__)


def platt(
    scores: Sequence[float], positive: Sequence[bool], weights: Sequence[float]
) -> tuple[float, float]:
    """Return slope and offset: 1 / (1 + exp(-(slope * score + offset))) is the probability."""
    slope, offset = 1.0, 0.0
    targets = [1.0 if is_code else 0.0 for is_code in positive]
    for _ in range(_PLATT_STEPS):
        g0 = g1 = h00 = h01 = 0.0
        h11 = 1e-9
        for s, t, w in zip(scores, targets, weights, strict=True):
            p = 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, slope * s + offset))))
            d, h = w * (p - t), w * p * (1.0 - p)
            g0, g1 = g0 + d * s, g1 + d
            h00, h01, h11 = h00 + h * s * s, h01 + h * s, h11 + h
        h00 += 1e-9
        det = h00 * h11 - h01 * h01
        change = ((h11 * g0 - h01 * g1) / det, (h00 * g1 - h01 * g0) / det)
        slope, offset = slope - change[0], offset - change[1]
        if abs(change[0]) + abs(change[1]) < 1e-10:
            break
    return slope, offset
