"""What a decoder layer is made of, as values: how it mixes tokens, and what stands behind.

All counts are of the whole model; ranks divide them in weights.py and kv.py.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Softmax attention with keys and values for each token.

    `window` tokens back are seen at most, or the current chunk of `chunk`; None: everything.
    `gated`: the query projection is twice as wide (Qwen3-Next). `key_is_value`: there is no value
    projection (Gemma 4's full layers), the cache has both all the same. `shares_cache`: it reads
    another layer's cache and has none (Gemma 3n). `encoder`: it sees both directions, so that
    nothing is cached.
    """

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None
    chunk: int | None = None
    gated: bool = False
    key_is_value: bool = False
    shares_cache: bool = False
    encoder: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """Multi-head latent attention (DeepSeek V2 and later): one compressed row for each token.

    `q_rank` None: the query is not compressed. `index_dim` is the width of the row that a sparse
    indexer keeps as well (V3.2), of `index_heads` heads; 0: none.
    """

    heads: int
    q_rank: int | None
    kv_rank: int
    rope_dim: int
    nope_dim: int
    v_dim: int
    index_heads: int = 0
    index_dim: int = 0

    @property
    def row(self) -> int:
        """Elements of one cached row."""
        return self.kv_rank + self.rope_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrent:
    """A linear-attention or Mamba layer: a state for each sequence, nothing for each token.

    `state` elements of `state_bytes` each, and `conv_width` x (`conv_kernel` - 1) of the model's
    own width. `parameters` are the weights of its projections that ranks divide. `delta`: a gated
    delta net, not Mamba.
    """

    conv_width: int
    conv_kernel: int
    state: int
    state_bytes: int | None
    parameters: int
    delta: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mlp:
    """A plain feed-forward block of `matrices` x hidden x `width`: 3 with a gate, 2 without."""

    width: int
    matrices: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts: `count` MLPs in each layer, of which `active` serve one token.

    `intermediate` is the width of one expert, `shared_intermediate` that of the experts that
    every token passes (0: none), `dense_layers` the number of layers with a plain MLP instead.
    `biased`: every matrix has a bias (gpt-oss). `beside`: the width of a plain MLP that stands
    beside the experts in the same layer (Gemma 4).
    """

    count: int
    active: int
    intermediate: int
    shared_intermediate: int = 0
    dense_layers: int = 0
    biased: bool = False
    beside: int = 0


Mixer = Attention | Latent | Recurrent


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One decoder layer; None: it has no such part.

    `plain` are its parameters that ranks replicate: norms and the like.
    """

    mixer: Mixer | None
    mlp: Mlp | Experts | None
    plain: int
