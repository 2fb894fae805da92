"""The answer of a memory check, as values: what each engine gets, what is short, the verdict."""

from dataclasses import dataclass
from typing import Literal

from gpuserve.errors import Problem
from gpuserve.readings import Gpu, Host

Verdict = Literal["fits", "tight", "risky", "not_now", "does_not_fit", "invalid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What one engine takes on each of its GPUs (or of host RAM on a CPU box), in bytes.

    `context_bytes` lies outside vLLM's own budget (fraction x total); everything else inside.
    `estimated` says that the architecture or a size was not known exactly. `margin_bytes` is how
    much more it takes at the 95th percentile of the error. `first_start_bytes` is how much larger
    the activation peak of a start without a compile cache is, and its KV cache smaller.
    """

    weights_bytes: int
    activation_bytes: int
    cuda_graph_bytes: int
    non_torch_bytes: int
    kv_cache_bytes: int
    context_bytes: int
    kv_cache_tokens: int
    max_concurrency: float
    kv_bytes_per_token: int
    estimated: bool = False
    margin_bytes: int = 0
    first_start_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """Everything that the engine takes, its context included."""
        return (
            self.weights_bytes
            + self.activation_bytes
            + self.cuda_graph_bytes
            + self.non_torch_bytes
            + self.kv_cache_bytes
            + self.context_bytes
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """One demand that a GPU (or the host, gpu=None) cannot meet, and by how much it misses."""

    model: str
    gpu: int | None
    needed_bytes: int
    available_bytes: int
    now: bool = False  # True: it would fit the hardware, but others hold the memory

    @property
    def short_bytes(self) -> int:
        """How much is missing, > 0."""
        return self.needed_bytes - self.available_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What one engine is given.

    `reserved_bytes` is charged on each GPU in `gpus`: the fraction x total, as vLLM rounds it,
    plus the context outside of it. `budget_bytes` is fraction x total alone. Where its GPUs are
    of different size, both are of the smallest.
    `gpu_memory_utilization` has four decimals, rounded up; None on a CPU box, where
    `kv_cache_space_gib` sizes the cache instead.
    """

    model: str
    gpus: tuple[int, ...]
    verdict: Verdict
    gpu_memory_utilization: float | None
    kv_cache_space_gib: int | None
    max_model_len: int | None
    max_num_seqs: int | None
    max_num_batched_tokens: int | None
    budget_bytes: int
    reserved_bytes: int
    footprint: Footprint | None  # None: the model's shape is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuShare:
    """One GPU and what the plan takes of it."""

    gpu: Gpu
    reserved_bytes: int

    @property
    def left_bytes(self) -> int:
        """What remains of the GPU's total; negative when oversubscribed."""
        return self.gpu.total_bytes - self.reserved_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """Everything that a check found. `gpus` is empty on a CPU box."""

    verdict: Verdict
    device: Literal["cuda", "cpu"]
    host: Host
    gpus: tuple[GpuShare, ...]
    grants: tuple[Grant, ...]
    shortfalls: tuple[Shortfall, ...]
    problems: tuple[Problem, ...]
