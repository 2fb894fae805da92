"""What a model looks like: the shape, numbers and quantization that a config.json states.

Values only. `read_architecture` turns a config mapping into an `Architecture` or says what is
wrong with it. A model type that is not among the known ones is computed from what its
config says and marked `estimated`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpuserve.memory.quantization import Quantization, read_quantization

# Model types whose tensors are the ones that weights.py counts: attention with q, k, v and o
# projections, a gated MLP of three matrices or a mixture of such, RMS norms. The list is of
# decoders that vLLM 0.32 serves with that layout (vllm/model_executor/models/registry.py).
_KNOWN_TYPES = frozenset(
    {"llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "phi3"}
    | {"gemma2", "gemma3_text", "olmo2", "granite", "smollm3"}
)
# Architectures that generate; everything else that vLLM serves pools (embeds, scores, ranks).
_GENERATES = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel", "ForImageTextToText")
# Rope kinds whose `factor` is already inside max_position_embeddings, so that vLLM does not
# multiply it again (vllm/config/model.py, _get_and_verify_max_len).
_ROPE_ALREADY_SCALED = frozenset(
    {"default", "su", "longrope", "llama3", "mrope", "yarn"}
    | {"deepseek_yarn", "deepseek_llama_scaling"}
)
# Far above any published model; a larger number means a damaged or hostile file.
_LIMITS = {
    "num_hidden_layers": 2_000,
    "num_attention_heads": 10_000,
    "num_key_value_heads": 10_000,
    "head_dim": 65_536,
    "hidden_size": 1_000_000,
    "intermediate_size": 10_000_000,
    "vocab_size": 10_000_000,
    "experts": 100_000,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts: `count` MLPs in each layer, of which `active` serve one token.

    `intermediate` is the width of one expert, `shared_intermediate` that of the experts that
    every token passes (0: none), `dense_layers` the number of layers with a plain MLP instead.
    """

    count: int
    active: int
    intermediate: int
    shared_intermediate: int = 0
    dense_layers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The shape of one model; counts are of the whole model, not of a rank.

    `trained_len` is the context that the model was trained for and `derived_len` the one that
    vLLM takes when nobody says (they differ with a linear rope factor); None: not stated.
    `sliding_layers` of `layers` see only `sliding_window` tokens back. `param_bytes` is the
    width of what is not quantized: 2, because vLLM loads float32 checkpoints in 16 bit unless
    told otherwise. `chat_template` None: not known. `estimated`: the type is
    not among the known ones, so sizes follow from the usual layout and may be off.
    """

    model_type: str
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    intermediate: int
    vocab: int
    tied_embeddings: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    param_bytes: int = 2
    trained_len: int | None = None
    derived_len: int | None = None
    sliding_window: int | None = None
    sliding_layers: int = 0
    experts: Experts | None = None
    quantization: Quantization | None = None
    chat_template: bool | None = None
    images: bool = False
    embeddings: bool = False
    estimated: bool = False

    @property
    def q_width(self) -> int:
        """Width of the query projection, which need not be `hidden`."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of the key projection, and of the value projection."""
        return self.kv_heads * self.head_dim


def read_architecture(
    config: Mapping[str, Any], *, chat_template: bool | None = None
) -> Architecture:
    """Return the architecture that a Hugging Face config.json states.

    A multimodal config is read through its `text_config`. Raises ValueError, with a sentence
    that names the key, when a number is missing, of the wrong type, or absurd.
    """
    text = _text_part(config)
    layers = _number(text, "num_hidden_layers", "n_layer", "num_layers", "n_layers")
    heads = _number(text, "num_attention_heads", "n_head", "n_heads")
    hidden = _number(text, "hidden_size", "n_embd", "d_model")
    head_dim = _optional(text, "head_dim") or _divided(hidden, heads)
    model_type = str(text.get("model_type", ""))
    names = config.get("architectures") or []
    trained, derived = _lengths(text)
    window, sliding = _sliding(text, layers, model_type)
    experts = _experts(text)
    return Architecture(
        model_type=model_type,
        layers=layers,
        heads=heads,
        kv_heads=_optional(text, "num_key_value_heads") or heads,
        head_dim=head_dim,
        hidden=hidden,
        intermediate=_optional(text, "intermediate_size", "ffn_dim") or 4 * hidden,
        vocab=_number(text, "vocab_size"),
        tied_embeddings=bool(text.get("tie_word_embeddings", model_type.startswith("gemma"))),
        qkv_bias=bool(text.get("attention_bias", model_type in {"qwen2", "qwen2_moe"})),
        qk_norm=model_type in {"qwen3", "qwen3_moe", "gemma3_text"},
        trained_len=trained,
        derived_len=derived,
        sliding_window=window,
        sliding_layers=sliding,
        experts=experts,
        quantization=read_quantization(config, text),
        chat_template=chat_template,
        images="vision_config" in config,
        embeddings=bool(names) and not any(str(names[0]).endswith(end) for end in _GENERATES),
        estimated=model_type not in _KNOWN_TYPES
        or "vision_config" in config
        or "kv_lora_rank" in text,
    )


def _text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    part = config.get("text_config")
    if isinstance(part, Mapping) and "num_hidden_layers" in part:
        return part
    return config


def _optional(text: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = text.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f'"{name}" must be a whole number, found {value!r:.60}')
        limit = _LIMITS.get(name, 1 << 40)
        if not 0 < value <= limit:
            raise ValueError(f'"{name}" is {value}, outside of 1 to {limit}')
        return value
    return None


def _number(text: Mapping[str, Any], *names: str) -> int:
    value = _optional(text, *names)
    if value is None:
        raise ValueError(f'it does not state "{names[0]}"')
    return value


def _divided(hidden: int, heads: int) -> int:
    if hidden % heads:
        raise ValueError(f'"hidden_size" {hidden} is not divisible by {heads} attention heads')
    return hidden // heads


def _lengths(text: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return what the model was trained for, and what vLLM derives when nobody says."""
    trained = _optional(text, "max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
    if trained is None:
        return None, None
    rope = text.get("rope_scaling") or text.get("rope_parameters")
    if not isinstance(rope, Mapping):
        return trained, trained
    kind = rope.get("rope_type") or rope.get("type") or "default"
    factor = rope.get("factor")
    if kind in _ROPE_ALREADY_SCALED or not isinstance(factor, int | float) or factor <= 0:
        return trained, trained
    return trained, int(trained * factor)


def _sliding(text: Mapping[str, Any], layers: int, model_type: str) -> tuple[int | None, int]:
    """Return the window and how many layers have it; (None, 0) without one."""
    window = _optional(text, "sliding_window")
    # Qwen2 states a window that `use_sliding_window: false` turns off.
    if window is None or text.get("use_sliding_window") is False:
        return None, 0
    kinds = text.get("layer_types")
    if isinstance(kinds, list):
        return window, min(layers, sum(kind == "sliding_attention" for kind in kinds))
    pattern = _optional(text, "sliding_window_pattern")
    if pattern is None and model_type.startswith("gemma"):
        # Gemma 2 alternates; Gemma 3 has one full layer in six (their model cards).
        pattern = 2 if model_type == "gemma2" else 6
    if pattern is not None:
        return window, layers - layers // pattern
    return window, layers


def _experts(text: Mapping[str, Any]) -> Experts | None:
    count = _optional(text, "num_local_experts", "num_experts", "n_routed_experts")
    if count is None or count < 2:
        return None
    if count > _LIMITS["experts"]:
        raise ValueError(f"it states {count} experts")
    width = _optional(text, "moe_intermediate_size") or _number(text, "intermediate_size")
    shared = _optional(text, "shared_expert_intermediate_size")
    if shared is None and text.get("n_shared_experts"):
        shared = width * _number(text, "n_shared_experts")
    first_dense = text.get("first_k_dense_replace") or 0
    return Experts(
        count=count,
        active=_optional(text, "num_experts_per_tok", "experts_per_token") or 1,
        intermediate=width,
        shared_intermediate=shared or 0,
        dense_layers=first_dense if isinstance(first_dense, int) else 0,
    )
