"""What each layer caches on one rank, as vLLM's cache specs have it: pages of whole blocks.

From vLLM 0.33, v1/kv_cache_interface.py (AttentionSpec, MLAAttentionSpec, SlidingWindowSpec,
ChunkedLocalAttentionSpec, MambaSpec) and utils/torch_utils.py (nvfp4_kv_cache_full_dim).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from gpuserve.memory.layers import Attention, Latent, Mixer, Recurrent
from gpuserve.memory.release import Release, latent_row_elements

Kind = Literal["full", "sliding", "chunked", "state"]

_FP8 = frozenset({"fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc"})
_WIDTHS = {"float32": 4, "float16": 2, "bfloat16": 2}
_SCALE_BYTES = 4  # one float32 for a head and token (int8_per_token_head, fp8_per_token_head)
# Rows of sparse MLA in FP8 and NVFP4: values, scales, and the rope part in 16 bit.
_LATENT_ROW_BYTES = {"fp8_ds_mla": 656, "nvfp4_ds_mla": 352}
# The indexer quantizes 128 values at a time and keeps a float32 scale (deepseek_v2.py, Indexer).
_INDEX_GROUP = 128


@dataclass(frozen=True, slots=True)
class Cache:
    """What one layer caches: `token_bytes` for each token in blocks of `block_tokens`.

    `span` is the window or the chunk, 0 for the other kinds. A state has no tokens:
    `state_bytes` is its page.
    """

    kind: Kind
    span: int
    token_bytes: int
    block_tokens: int
    state_bytes: int = 0
    padded_bytes: int = 0

    @property
    def page_bytes(self) -> int:
        """Bytes of one block of this layer."""
        own = self.state_bytes or self.token_bytes * self.block_tokens
        return max(own, self.padded_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """What decides the size of a cache beside the layer: ranks, dtype, blocks, release.

    `state_bytes` is the width of a recurrent state where something overrides the model's.
    """

    ranks: int
    dtype: str
    model_bytes: int
    block_tokens: int
    draft_tokens: int
    state_bytes: int | None
    release: Release | None


def layer_caches(mixer: Mixer | None, settings: CacheSettings) -> list[Cache]:
    """Return what a layer with *mixer* caches on one rank: nothing, a cache, or two."""
    match mixer:
        case Attention(shares_cache=False, encoder=False):
            return [_attention(mixer, settings)]
        case Latent():
            return _latent(mixer, settings)
        case Recurrent():
            return [_state(mixer, settings)]
    return []


def unified(caches: list[Cache], settings: CacheSettings) -> list[Cache]:
    """Return *caches* with pages of one size, as a hybrid model's layers share one pool.

    With states the attention's block grows until its page holds a state; then smaller pages get
    larger blocks, or padding where that does not come out even.
    """
    states = [c for c in caches if c.kind == "state"]
    tokens = [c for c in caches if c.kind != "state"]
    if states and tokens:
        align = settings.block_tokens
        unit = align * max(c.token_bytes for c in tokens)
        block = align * math.ceil(max(c.page_bytes for c in states) / unit)
        block = max(block, settings.block_tokens)
        tokens = [replace(c, block_tokens=block) for c in tokens]
        caches = [c if c.kind == "state" else replace(c, block_tokens=block) for c in caches]
    largest = max((c.page_bytes for c in caches), default=0)
    return [_enlarged(c, largest) for c in caches]


def _enlarged(cache: Cache, page_bytes: int) -> Cache:
    own = cache.page_bytes
    if own == page_bytes:
        return cache
    if cache.kind != "state" and page_bytes % own == 0:
        return replace(cache, block_tokens=cache.block_tokens * (page_bytes // own))
    return replace(cache, padded_bytes=page_bytes)


def _attention(layer: Attention, settings: CacheSettings) -> Cache:
    heads = max(1, layer.kv_heads // settings.ranks)
    kind: Kind = "full"
    if layer.window is not None:
        kind = "sliding"
    elif layer.chunk is not None:
        kind = "chunked"
    return Cache(
        kind,
        layer.window or layer.chunk or 0,
        heads * _head_bytes(layer.head_dim, settings),
        settings.block_tokens,
    )


def _head_bytes(head_dim: int, settings: CacheSettings) -> int:
    """Key and value of one head and one token."""
    dtype = settings.dtype
    if dtype in _FP8:
        return 2 * head_dim  # scales are per tensor
    if dtype == "nvfp4":
        return 2 * (head_dim // 2 + head_dim // 16)
    if dtype in {"int8_per_token_head", "fp8_per_token_head"}:
        return 2 * (head_dim + _SCALE_BYTES)
    return 2 * head_dim * _WIDTHS.get(dtype, settings.model_bytes)


def _latent(layer: Latent, settings: CacheSettings) -> list[Cache]:
    release = settings.release
    if release is not None and release < (0, 7):
        # Before MLA was cached as such, keys and values were written out for every head.
        heads = max(1, layer.heads // settings.ranks)
        wide = max(layer.nope_dim + layer.rope_dim, layer.v_dim)
        padded = 256 if wide > 128 else 128  # what the kernels of the time could do
        return [Cache("full", 0, heads * 2 * padded * settings.model_bytes, settings.block_tokens)]
    row = _LATENT_ROW_BYTES.get(settings.dtype)
    if row is None:
        width = 1 if settings.dtype in _FP8 else _WIDTHS.get(settings.dtype, settings.model_bytes)
        row = latent_row_elements(release, layer.row) * width
    found = [Cache("full", 0, row, settings.block_tokens)]
    if layer.index_dim:
        index = layer.index_dim + layer.index_dim // _INDEX_GROUP * 4
        found.append(Cache("full", 0, index, settings.block_tokens))
    return found


def _state(layer: Recurrent, settings: CacheSettings) -> Cache:
    kept = layer.conv_kernel - 1 + settings.draft_tokens
    conv = math.ceil(layer.conv_width / settings.ranks) * kept * settings.model_bytes
    width = settings.state_bytes or layer.state_bytes or settings.model_bytes
    return Cache("state", 0, 0, 0, state_bytes=conv + layer.state // settings.ranks * width)


def grouped(layers: list[tuple[int, Cache]], ratio: float) -> list[tuple[Cache, list[int]]]:
    """Split *layers*, (index, cache), into groups of one kind and of equal size.

    The rarest kind's number is the size, or the commonest's where it is below *ratio* times that
    (v1/core/kv_cache_planning.py, _get_kv_cache_groups_uniform_page_size). A kind with more
    layers than the size makes several groups, dealt out in turn.
    """
    kinds: dict[Cache, list[int]] = {}
    for index, cache in layers:
        kinds.setdefault(cache, []).append(index)
    sizes = [len(found) for found in kinds.values()]
    size = max(sizes) if max(sizes) < ratio * min(sizes) else min(sizes)
    groups = []
    for cache, found in kinds.items():
        count = math.ceil(len(found) / size)
        groups += [(cache, found[n::count]) for n in range(count)]
    return groups


def blocks_of(cache: Cache, *, in_flight_tokens: int, states: int) -> Callable[[int], int]:
    """Return how many blocks a request of so many tokens holds of a layer with *cache*."""
    block = cache.block_tokens

    def full(tokens: int) -> int:
        return math.ceil(tokens / block)

    def sliding(tokens: int) -> int:
        held = min(cache.span - 1 + in_flight_tokens, tokens)
        # One more, because a window seldom begins where a block does.
        return math.ceil(held / block) + 1

    def chunked(tokens: int) -> int:
        return math.ceil(min(cache.span + in_flight_tokens, tokens) / block)

    def state(_tokens: int) -> int:
        return states

    return {"full": full, "sliding": sliding, "chunked": chunked, "state": state}[cache.kind]
