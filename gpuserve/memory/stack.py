"""The layers of models whose layers differ, or are not the usual attention and MLP.

Each reader turns the config of one family into its layers, as the family's class in vLLM builds
them (vllm/model_executor/models/, named in the docstrings).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gpuserve.memory.confignumbers import count, flag, number, optional_number
from gpuserve.memory.layers import Attention, Experts, Latent, Layer, Mixer, Mlp
from gpuserve.memory.recurrent import delta_net, mamba2

_MOST_EXPERTS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Basics:
    """What every config states, already checked."""

    model_type: str
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    intermediate: int

    def attention(self, window: int | None = None, chunk: int | None = None) -> Attention:
        """Return the model's plain attention."""
        return Attention(
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            window=window,
            chunk=chunk,
        )

    def experts(self, text: Mapping[str, Any]) -> Experts | None:
        """Return the mixture that *text* states, None for a dense model."""
        names = ("num_local_experts", "num_experts", "n_routed_experts")
        wanted = next((n for n in (count(text, name, _MOST_EXPERTS) for name in names) if n), 0)
        if wanted < 2:
            return None
        width = optional_number(text, "moe_intermediate_size", "expert_ffn_hidden_size")
        width = width or self.intermediate
        shared = optional_number(
            text, "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size"
        )
        if shared is None:
            shared = width * count(text, "n_shared_experts", _MOST_EXPERTS)
        active = optional_number(
            text,
            "num_experts_per_tok",
            "experts_per_token",
            "top_k_experts",
            "num_experts_per_token",
        )
        if active is not None and active > wanted:
            raise ValueError(f'"num_experts_per_tok" is {active}, of {wanted} experts')
        return Experts(
            count=wanted,
            active=active or 1,
            intermediate=width,
            shared_intermediate=shared,
            dense_layers=min(self.layers, count(text, "first_k_dense_replace", 100_000)),
        )


def read_stack(text: Mapping[str, Any], basics: Basics) -> tuple[Layer, ...]:
    """Return the layers of *text*, () where all are alike and of the usual kind.

    Raises ValueError for numbers that are missing or absurd.
    """
    reader = _READERS.get(basics.model_type)
    if reader is not None:
        return reader(text, basics)
    if text.get("kv_lora_rank"):
        return _latent(text, basics)
    if text.get("linear_num_value_heads"):
        return _delta_hybrid(text, basics)
    return ()


def _latent(text: Mapping[str, Any], basics: Basics) -> tuple[Layer, ...]:
    """DeepSeek V2, V3, V3.2, Kimi K2, GLM 5 (deepseek_v2.py)."""
    # Where a config leaves them out, the widths are those of DeepSeek V2 and V3.
    latent = Latent(
        heads=basics.heads,
        q_rank=optional_number(text, "q_lora_rank"),
        kv_rank=number(text, "kv_lora_rank"),
        rope_dim=optional_number(text, "qk_rope_head_dim") or 64,
        nope_dim=optional_number(text, "qk_nope_head_dim") or 128,
        v_dim=optional_number(text, "v_head_dim") or 128,
        index_heads=optional_number(text, "index_n_heads") or 0,
        index_dim=optional_number(text, "index_head_dim") or 0,
    )
    plain = 2 * basics.hidden + latent.kv_rank + (latent.q_rank or 0)
    experts = basics.experts(text)
    dense = Mlp(width=basics.intermediate)
    frequency = optional_number(text, "moe_layer_freq") if text.get("moe_layer_freq") else 1
    layers = []
    for n in range(basics.layers):
        is_dense = experts is None or n < experts.dense_layers or n % (frequency or 1)
        layers.append(Layer(mixer=latent, mlp=dense if is_dense else experts, plain=plain))
    return tuple(layers)


def _gpt_oss(text: Mapping[str, Any], basics: Basics) -> tuple[Layer, ...]:
    """gpt-oss: alternating windows, biases everywhere, a sink for each head (gpt_oss.py)."""
    window = optional_number(text, "sliding_window")
    kinds = _kinds(text, basics, lambda n: "full_attention" if n % 2 else "sliding_attention")
    experts = basics.experts(text)
    if experts is not None:
        experts = Experts(
            count=experts.count,
            active=experts.active,
            intermediate=experts.intermediate,
            biased=True,
        )
    biases = (basics.heads + 2 * basics.kv_heads) * basics.head_dim + basics.hidden
    plain = 2 * basics.hidden + biases + basics.heads
    return tuple(
        Layer(
            mixer=basics.attention(window if kind == "sliding_attention" else None),
            mlp=experts,
            plain=plain,
        )
        for kind in kinds
    )


def _delta_hybrid(text: Mapping[str, Any], basics: Basics) -> tuple[Layer, ...]:
    """Qwen3-Next and Qwen3.5: three gated delta nets, then one attention (qwen3_next.py)."""
    every = optional_number(text, "full_attention_interval") or 4
    kinds = _kinds(
        text, basics, lambda n: "linear_attention" if (n + 1) % every else "full_attention"
    )
    recurrent, small = delta_net(text, basics.hidden)
    attention = Attention(
        heads=basics.heads,
        kv_heads=basics.kv_heads,
        head_dim=basics.head_dim,
        gated=flag(text, "attn_output_gate", default=True),
    )
    experts = basics.experts(text)
    mlp: Mlp | Experts = experts if experts is not None else Mlp(width=basics.intermediate)
    norms = 2 * basics.hidden
    if experts is not None and experts.shared_intermediate:
        norms += basics.hidden  # the gate of the shared expert
    return tuple(
        Layer(mixer=attention, mlp=mlp, plain=norms + 2 * basics.head_dim)
        if kind == "full_attention"
        else Layer(mixer=recurrent, mlp=mlp, plain=norms + small)
        for kind in kinds
    )


def _gemma4(text: Mapping[str, Any], basics: Basics) -> tuple[Layer, ...]:
    """Gemma 4: full layers have wider, fewer heads, without values of their own (gemma4.py)."""
    window = optional_number(text, "sliding_window")
    kinds = _kinds(text, basics, lambda n: "sliding_attention" if (n + 1) % 6 else "full_attention")
    shared_from = basics.layers - count(text, "num_kv_shared_layers", basics.layers)
    same = flag(text, "attention_k_eq_v", default=False)
    wide = optional_number(text, "global_head_dim") or basics.head_dim
    few = optional_number(text, "num_global_key_value_heads") or basics.kv_heads
    experts = basics.experts(text)
    mlp: Mlp | Experts = Mlp(width=basics.intermediate)
    if experts is not None:
        mlp = Experts(
            count=experts.count,
            active=experts.active,
            intermediate=experts.intermediate,
            beside=basics.intermediate,
        )
    layers = []
    for n, kind in enumerate(kinds):
        full = kind == "full_attention"
        mixer = Attention(
            heads=basics.heads,
            kv_heads=few if full else basics.kv_heads,
            head_dim=wide if full else basics.head_dim,
            window=None if full else window,
            key_is_value=full and same,
            shares_cache=n >= shared_from,
        )
        layers.append(Layer(mixer=mixer, mlp=mlp, plain=6 * basics.hidden))
    return tuple(layers)


def _llama4(text: Mapping[str, Any], basics: Basics) -> tuple[Layer, ...]:
    """Llama 4: three layers see their chunk, the fourth everything (llama4.py)."""
    chunk = optional_number(text, "attention_chunk_size") or 8192
    step = optional_number(text, "interleave_moe_layer_step") or 1
    experts = basics.experts(text)
    if experts is not None:
        experts = Experts(
            count=experts.count,
            active=experts.active,
            intermediate=experts.intermediate,
            shared_intermediate=basics.intermediate,
        )
    dense = Mlp(width=optional_number(text, "intermediate_size_mlp") or basics.intermediate)
    no_rope = text.get("no_rope_layers")
    layers = []
    for n in range(basics.layers):
        local = bool((n + 1) % 4)
        if isinstance(no_rope, list) and len(no_rope) == basics.layers:
            local = bool(no_rope[n])
        mixer = basics.attention(chunk=chunk if local else None)
        mixed = experts is not None and (n + 1) % step == 0
        layers.append(Layer(mixer=mixer, mlp=experts if mixed else dense, plain=2 * basics.hidden))
    return tuple(layers)


def _granite_hybrid(text: Mapping[str, Any], basics: Basics) -> tuple[Layer, ...]:
    """Granite 4: Mamba 2 layers with a few of attention between (granitemoehybrid.py)."""
    kinds = _kinds(text, basics, lambda _: "attention")
    recurrent, small = mamba2(
        hidden=basics.hidden,
        heads=number(text, "mamba_n_heads"),
        head_dim=number(text, "mamba_d_head"),
        state=number(text, "mamba_d_state"),
        groups=number(text, "mamba_n_groups"),
        kernel=number(text, "mamba_d_conv"),
        state_bytes=None,
    )
    shared = optional_number(text, "shared_intermediate_size") or basics.intermediate
    experts = basics.experts(text)
    mlp: Mlp | Experts = Mlp(width=shared)
    if experts is not None:
        mlp = Experts(
            count=experts.count,
            active=experts.active,
            intermediate=experts.intermediate,
            shared_intermediate=shared,
        )
    norms = 2 * basics.hidden
    return tuple(
        Layer(mixer=recurrent, mlp=mlp, plain=norms + small)
        if kind == "mamba"
        else Layer(mixer=basics.attention(), mlp=mlp, plain=norms)
        for kind in kinds
    )


def _nemotron_h(text: Mapping[str, Any], basics: Basics) -> tuple[Layer, ...]:
    """Nemotron-H: each layer is one block, by a letter of the pattern (nemotron_h.py)."""
    pattern = str(text.get("hybrid_override_pattern") or "")
    if len(pattern) != basics.layers:
        raise ValueError(
            f'"hybrid_override_pattern" names {len(pattern)} of {basics.layers} layers'
        )
    recurrent, small = mamba2(
        hidden=basics.hidden,
        heads=number(text, "mamba_num_heads"),
        head_dim=number(text, "mamba_head_dim"),
        state=number(text, "ssm_state_size"),
        groups=number(text, "n_groups"),
        kernel=optional_number(text, "conv_kernel") or 4,
        state_bytes=4 if text.get("mamba_ssm_cache_dtype") == "float32" else None,
    )
    dense = Mlp(width=basics.intermediate, matrices=2)
    kinds: dict[str, tuple[Mixer | None, Mlp | Experts | None]] = {
        "M": (recurrent, None),
        "*": (basics.attention(), None),
        "-": (None, dense),
        "E": (None, basics.experts(text) or dense),
    }
    layers = []
    for letter in pattern:
        if letter not in kinds:
            raise ValueError(f'"hybrid_override_pattern" has the unknown letter "{letter}"')
        mixer, mlp = kinds[letter]
        plain = basics.hidden + (small if letter == "M" else 0)
        layers.append(Layer(mixer=mixer, mlp=mlp, plain=plain))
    return tuple(layers)


def _kinds(
    text: Mapping[str, Any], basics: Basics, otherwise: Callable[[int], str]
) -> tuple[str, ...]:
    """Return the kind of each layer: as `layer_types` says, else by the family's rule."""
    stated = text.get("layer_types") or text.get("layers_block_type")
    if not isinstance(stated, list):
        return tuple(otherwise(n) for n in range(basics.layers))
    if len(stated) != basics.layers:
        raise ValueError(f'"layer_types" names {len(stated)} of {basics.layers} layers')
    return tuple(str(kind) for kind in stated)


_READERS: dict[str, Callable[[Mapping[str, Any], Basics], tuple[Layer, ...]]] = {
    "deepseek_v2": _latent,
    "deepseek_v3": _latent,
    "deepseek_v32": _latent,
    "kimi_k2": _latent,
    "glm_moe_dsa": _latent,
    "gpt_oss": _gpt_oss,
    "qwen3_next": _delta_hybrid,
    "qwen3_5_text": _delta_hybrid,
    "qwen3_5_moe_text": _delta_hybrid,
    "gemma4_text": _gemma4,
    "llama4_text": _llama4,
    "granitemoehybrid": _granite_hybrid,
    "nemotron_h": _nemotron_h,
}
KNOWN_STACKS = frozenset(_READERS)
