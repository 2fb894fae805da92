"""--gpu-memory-utilization and the bytes that vLLM makes of it.

Fractions have four decimals: a step is 9.7 MiB of a 96 GB card.
"""

import math

from gpuserve.memory.report import Grant
from gpuserve.readings import Gpu

_STEPS = 10_000


def charged_bytes(gpu: Gpu, fraction: float) -> int:
    """Return the budget that vLLM takes of *gpu* (v1/worker/utils.py, request_memory)."""
    return math.ceil(gpu.total_bytes * fraction)


def fraction_up(gpu: Gpu, budget_bytes: int) -> float:
    """Return the smallest fraction whose charge is at least *budget_bytes*."""
    return -(-budget_bytes * _STEPS // gpu.total_bytes) / _STEPS


def fraction_down(gpu: Gpu, budget_bytes: int) -> float:
    """Return the largest fraction whose charge is at most *budget_bytes*."""
    steps = max(0, budget_bytes) * _STEPS // gpu.total_bytes
    if math.ceil(gpu.total_bytes * (steps / _STEPS)) > budget_bytes:
        steps -= 1
    return max(0, steps) / _STEPS


def reserved_on(gpu: Gpu, grant: Grant) -> int:
    """Return what *grant* takes of *gpu*, context included: its share of that very card.

    Ranks have one fraction on cards that may differ; vLLM checks it against each card.
    """
    charged = charged_bytes(gpu, grant.gpu_memory_utilization or 0.0)
    # A fixed cache may be larger than what a stated fraction leaves for it.
    return max(grant.budget_bytes, charged) + grant.reserved_bytes - grant.budget_bytes
