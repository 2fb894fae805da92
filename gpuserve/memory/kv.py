"""How much KV cache a token, a request and a promise take on one rank, as vLLM counts it.

Layers of one kind (full or sliding attention) form groups of equal size that share one pool
of blocks; a request takes blocks from it for each group (vLLM, v1/core/kv_cache_utils.py and
v1/kv_cache_interface.py). A model of one kind is one group.
"""

import math
from dataclasses import dataclass

from gpuserve.memory.architecture import Architecture

BLOCK_TOKENS = 16  # CacheConfig.DEFAULT_BLOCK_SIZE
CPU_BLOCK_TOKENS = 128  # vllm/platforms/cpu.py
# vLLM keeps block 0 for itself (v1/core/block_pool.py, null_block).
NULL_BLOCKS = 1
# With asynchronous scheduling two batches are in flight, and the window of a sliding layer
# must hold both (vllm/config/vllm.py, 0.33).
_BATCHES_IN_FLIGHT = 2
_ELEMENT_BYTES = {"fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1, "fp8_inc": 1, "float32": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class KvShape:
    """The KV cache of one model on one rank, with the settings that change it.

    `full_groups` and `sliding_groups` are the numbers of groups of each kind, `group_layers`
    the layers of one group, `token_bytes` what one token takes in one layer.
    """

    token_bytes: int
    group_layers: int
    full_groups: int
    sliding_groups: int
    sliding_window: int
    block_tokens: int
    in_flight_tokens: int

    @property
    def block_bytes(self) -> int:
        """Bytes of one block of the pool."""
        return self.token_bytes * self.block_tokens * self.group_layers

    def blocks_per_request(self, tokens: int) -> int:
        """Return the blocks that a request of *tokens* holds at most."""
        full = math.ceil(tokens / self.block_tokens)
        if not self.sliding_groups:
            return self.full_groups * full
        held = min(self.sliding_window - 1 + self.in_flight_tokens, tokens)
        # One more, because a window seldom begins where a block does.
        sliding = math.ceil(held / self.block_tokens) + 1
        return self.full_groups * full + self.sliding_groups * sliding

    def request_bytes(self, tokens: int) -> int:
        """Return the bytes that a request of *tokens* holds at most."""
        return self.blocks_per_request(tokens) * self.block_bytes

    def promise_bytes(self, tokens: int, sequences: int) -> int:
        """Return the pool in which *sequences* requests of *tokens* all run at full length."""
        return (self.blocks_per_request(tokens) * sequences + NULL_BLOCKS) * self.block_bytes

    def capacity(self, pool_bytes: int, tokens: int) -> tuple[int, float]:
        """Return how many tokens, and how many requests of *tokens*, a pool holds.

        As vLLM logs them: tokens are requests x *tokens*; both are 0 for an empty pool.
        """
        blocks = max(0, pool_bytes) // self.block_bytes
        requests = blocks / self.blocks_per_request(tokens)
        return int(requests * tokens), requests

    @property
    def bytes_per_token(self) -> int:
        """What a token of a long request takes in all layers, windows left aside."""
        return self.token_bytes * self.group_layers * (self.full_groups + self.sliding_groups)


def kv_shape(
    arch: Architecture,
    *,
    tensor_parallel_size: int = 1,
    pipeline_parallel_size: int = 1,
    kv_cache_dtype: str | None = None,
    block_tokens: int = BLOCK_TOKENS,
    max_num_batched_tokens: int,
) -> KvShape:
    """Return the KV cache of *arch* on one rank.

    Key and value heads are divided among the ranks and replicated when there are fewer heads
    than ranks. fp8 takes one byte for an element (scales are per tensor), anything else the
    width of the model's numbers, at most 2.
    """
    heads = max(1, arch.kv_heads // tensor_parallel_size)
    element = _ELEMENT_BYTES.get(kv_cache_dtype or "auto", min(2, arch.param_bytes))
    layers = math.ceil(arch.layers / pipeline_parallel_size)
    sliding = math.ceil(arch.sliding_layers / pipeline_parallel_size)
    full = layers - sliding
    group = _group_layers(full, sliding)
    return KvShape(
        token_bytes=heads * arch.head_dim * 2 * element,
        group_layers=group,
        full_groups=math.ceil(full / group),
        sliding_groups=math.ceil(sliding / group),
        sliding_window=arch.sliding_window or 0,
        block_tokens=block_tokens,
        in_flight_tokens=_BATCHES_IN_FLIGHT * max_num_batched_tokens,
    )


def _group_layers(full: int, sliding: int) -> int:
    """Return the layers of a group: the rarer kind's count, or the other's if that is near."""
    if not full or not sliding:
        return max(full, sliding)
    least, most = sorted((full, sliding))
    return most if most < 1.5 * least else least
