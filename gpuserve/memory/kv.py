"""How much KV cache a token, a request and a promise take on one rank, as vLLM counts it.

Layers of one kind form groups of equal size that share one pool of blocks; a request takes
blocks from it for each group (vLLM 0.33, v1/core/kv_cache_planning.py and kv_cache_utils.py). A
model of one kind is one group, and so are layers of different width that all keep every token.
"""

from dataclasses import dataclass
from functools import lru_cache

from gpuserve.memory.architecture import Architecture
from gpuserve.memory.caches import Cache, CacheSettings, blocks_of, grouped, layer_caches, unified
from gpuserve.memory.layers import Latent, Recurrent
from gpuserve.memory.release import (
    Release,
    batches_in_flight,
    recurrent_blocks,
    tokens_are_concurrency,
)
from gpuserve.memory.stages import stage_bounds

BLOCK_TOKENS = 16  # CacheConfig.DEFAULT_BLOCK_SIZE
CPU_BLOCK_TOKENS = 128  # vllm/platforms/cpu.py
# FlashMLA reads blocks of 64; other MLA backends 32 to 128 (v1/attention/backends/mla). Before
# them, on V0, it was 16. Only the rounding of a request depends on it.
_LATENT_BLOCK_TOKENS = 64
# vLLM keeps block 0 for itself (v1/core/block_pool.py, null_block).
NULL_BLOCKS = 1
_STATE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_GROUP_RATIO = 1.5  # v1/core/kv_cache_planning.py, "1.5 is a heuristic"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheGroup:
    """One group of layers: what a request of some length takes of the pool for it."""

    cache: Cache
    in_flight_tokens: int
    states: int

    def blocks(self, tokens: int) -> int:
        """Return the blocks that a request of *tokens* holds at most."""
        held = blocks_of(self.cache, in_flight_tokens=self.in_flight_tokens, states=self.states)
        return held(tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class KvShape:
    """The KV cache of one model on its fullest rank.

    `block_bytes` is one block of the pool, `groups` what requests take blocks for; without
    groups the model caches nothing. `bytes_per_token` is what a token of a long request takes
    in all layers, windows left aside. `counts_blocks`: the release prints blocks / groups x
    block size as tokens, not requests x length.
    """

    block_bytes: int
    groups: tuple[CacheGroup, ...]
    bytes_per_token: int
    counts_blocks: bool = False

    def blocks_per_request(self, tokens: int) -> int:
        """Return the blocks that a request of *tokens* holds at most."""
        return sum(group.blocks(tokens) for group in self.groups)

    def request_bytes(self, tokens: int) -> int:
        """Return the bytes that a request of *tokens* holds at most."""
        return self.blocks_per_request(tokens) * self.block_bytes

    def promise_bytes(self, tokens: int, sequences: int) -> int:
        """Return the pool in which *sequences* requests of *tokens* all run at full length."""
        return (self.blocks_per_request(tokens) * sequences + NULL_BLOCKS) * self.block_bytes

    def capacity(self, pool_bytes: int, tokens: int) -> tuple[int, float]:
        """Return how many tokens, and how many requests of *tokens*, a pool holds.

        As vLLM logs them: tokens are requests x *tokens*; both are 0 for an empty pool, and for
        a model that caches nothing.
        """
        if not self.block_bytes:
            return 0, 0.0
        blocks = max(0, pool_bytes) // self.block_bytes
        requests = blocks / self.blocks_per_request(tokens)
        if self.counts_blocks:
            smallest = min(
                (g.cache.block_tokens for g in self.groups if g.cache.block_tokens), default=0
            )
            return blocks // len(self.groups) * smallest, requests
        return int(requests * tokens), requests


@lru_cache(maxsize=1024)  # models share shapes, and one check asks often
def kv_shape(
    arch: Architecture,
    *,
    tensor_parallel_size: int = 1,
    pipeline_parallel_size: int = 1,
    kv_cache_dtype: str | None = None,
    block_tokens: int | None = None,
    max_num_batched_tokens: int,
    prefix_caching: bool = True,
    asynchronous: bool = True,
    state_dtype: str | None = None,
    cpu: bool = False,
    draft: Architecture | None = None,
    draft_tokens: int = 0,
    release: Release | None = None,
) -> KvShape:
    """Return the KV cache of *arch* on its fullest rank.

    Key and value heads are divided among the ranks and replicated when there are fewer heads
    than ranks; latent rows (MLA) are replicated. `block_tokens` None: vLLM's default. `state_dtype`
    is that of recurrent states (--mamba-ssm-cache-dtype); on CPU it is float32 unless stated.
    `draft` is a model for speculation, whose layers stand beside those of *arch*; it proposes
    `draft_tokens` at a time.
    """
    settings = CacheSettings(
        ranks=tensor_parallel_size,
        dtype=kv_cache_dtype or "auto",
        model_bytes=arch.param_bytes,
        block_tokens=block_tokens or (CPU_BLOCK_TOKENS if cpu else _default_block(arch, release)),
        draft_tokens=draft_tokens,
        state_bytes=_STATE_BYTES.get(state_dtype or ("float32" if cpu else "")),
        release=release,
    )
    caches = _caches(arch, draft, settings)
    if not caches:
        return KvShape(block_bytes=0, groups=(), bytes_per_token=0)
    groups = _groups(caches, settings)
    bounds = stage_bounds(len(arch.all_layers), pipeline_parallel_size)
    # CPU does not schedule ahead, and its delta nets have no state to export in a prefill.
    batches = batches_in_flight(
        release, stages=pipeline_parallel_size, asynchronous=asynchronous and not cpu
    )
    in_flight = batches * max_num_batched_tokens
    states = draft_tokens + recurrent_blocks(
        release, prefix_caching=prefix_caching, checkpoints=not (cpu and _has_delta(arch))
    )
    return KvShape(
        block_bytes=max(
            sum(
                sum(page for at, page in members if _within(at, bound, arch)) for members in [pages]
            )
            for bound in bounds
            for _, pages in groups
        ),
        groups=tuple(
            CacheGroup(cache=cache, in_flight_tokens=in_flight, states=states)
            for cache, _ in groups
        ),
        bytes_per_token=max(
            sum(c.token_bytes for at, c in caches if _within(at, bound, arch)) for bound in bounds
        ),
        counts_blocks=not tokens_are_concurrency(release),
    )


def _has_delta(arch: Architecture) -> bool:
    return any(isinstance(x.mixer, Recurrent) and x.mixer.delta for x in arch.all_layers)


def _default_block(arch: Architecture, release: Release | None) -> int:
    latent = isinstance(arch.all_layers[0].mixer, Latent)
    old = release is not None and release < (0, 9)
    return _LATENT_BLOCK_TOKENS if latent and not old else BLOCK_TOKENS


def _caches(
    arch: Architecture, draft: Architecture | None, settings: CacheSettings
) -> list[tuple[int, Cache]]:
    """Every cache with the index of its layer; a draft's layers come after the last."""
    layers = arch.all_layers + (draft.all_layers if draft is not None else ())
    return [
        (index, cache)
        for index, layer in enumerate(layers)
        for cache in layer_caches(layer.mixer, settings)
    ]


def _groups(
    caches: list[tuple[int, Cache]], settings: CacheSettings
) -> list[tuple[Cache, list[tuple[int, int]]]]:
    """Return each group as one cache that speaks for it, and (layer, page bytes) of its members."""
    kinds = {(c.kind, c.span, c.state_bytes) for _, c in caches}
    if len(kinds) == 1:
        # All keep the same tokens: one group, however wide each layer is.
        return [(caches[0][1], [(at, c.page_bytes) for at, c in caches])]
    alike = unified([c for _, c in caches], settings)
    placed = [(at, c) for (at, _), c in zip(caches, alike, strict=True)]
    return [
        (cache, [(at, cache.page_bytes) for at in members])
        for cache, members in grouped(placed, _GROUP_RATIO)
    ]


def _within(layer: int, bound: tuple[int, int], arch: Architecture) -> bool:
    """Whether a stage holds *layer*; a draft's layers are with the last stage."""
    last = len(arch.all_layers)
    return bound[0] <= min(layer, last - 1) < bound[1]
