"""What a model looks like: the shape, numbers and quantization that a config.json states.

Values only. `read_architecture` turns a config mapping into an `Architecture` or says what is
wrong with it. A model type that is not among the known ones is computed from what its
config says and marked `estimated`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpuserve.memory.configdoubts import (
    guesses,
    refuse_contradictions,
    refuse_uneven_heads,
    refuse_wrong_kinds,
)
from gpuserve.memory.confignumbers import count, flag, number, optional_number
from gpuserve.memory.layers import Attention, Experts, Layer, Mlp
from gpuserve.memory.quantization import Quantization, read_quantization
from gpuserve.memory.rope import read_lengths
from gpuserve.memory.stack import KNOWN_STACKS, Basics, read_stack
from gpuserve.memory.tower import VisionTower, read_tower

__all__ = ["Architecture", "Experts", "read_architecture"]

# Model types whose tensors are the ones that weights.py counts: attention with q, k, v and o
# projections, a gated MLP of three matrices or a mixture of such, RMS norms. The list is of
# decoders that vLLM 0.32 serves with that layout (vllm/model_executor/models/registry.py).
_KNOWN_TYPES = frozenset(
    {"llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "phi3"}
    | {"gemma2", "gemma3_text", "olmo2", "granite", "smollm3", "ministral", "seed_oss"}
)
# Architectures that generate; everything else that vLLM serves pools (embeds, scores, ranks).
_GENERATES = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel", "ForImageTextToText")
# Encoders: they see both directions and cache nothing (registry.py, embedding models).
_ENCODER_TYPES = frozenset(
    {"bert", "roberta", "xlm-roberta", "modernbert", "nomic_bert", "new", "distilbert"}
    | {"electra", "mpnet", "camembert", "gte"}
)
# A window that these state holds for every layer (their classes in vllm/model_executor/models).
_WINDOW_EVERYWHERE = frozenset(
    {
        "llama",
        "mistral",
        "mixtral",
        "phi3",
        "qwen2",
        "qwen2_moe",
        "qwen3",
        "qwen3_moe",
        "starcoder2",
    }
)
_BIASED_HEADS = {"qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl", "qwen2_5_vl_text"}
# Their MLP has two matrices, without a gate (the config.json of none of them says so).
_UNGATED_TYPES = frozenset(
    {"opt", "mpt", "gpt2", "gpt_neo", "gpt_neox", "gptj", "gpt_bigcode", "bloom", "falcon", "phi"}
    | {"starcoder2", "codegen", "bert", "roberta", "xlm-roberta", "distilbert", "electra", "mpnet"}
)
_NORMED_HEADS = {"qwen3", "qwen3_moe", "gemma3_text", "qwen3_vl_text", "qwen3_vl_moe_text"}
_FAMILIAR_TYPES = _BIASED_HEADS | _UNGATED_TYPES | _NORMED_HEADS


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The shape of one model; counts are of the whole model, not of a rank.

    `trained_len` is the context that the model was trained for and `derived_len` the one that
    vLLM takes when nobody says (they differ with a linear rope factor); None: not stated.
    `sliding_layers` of `layers` see only `sliding_window` tokens back. `param_bytes` is the
    width of what is not quantized: 2, because vLLM loads float32 checkpoints in 16 bit unless
    told otherwise. `chat_template` None: not known. `estimated`: the type is
    not among the known ones, so sizes follow from the usual layout and may be off.

    `stack` holds the layers one by one where they differ or are not of the usual kind; without
    it every layer is alike, as the other fields say. `tower` is the vision part. `rotary_len` are
    the positions of all rotary tables, `draft_layers` the layers for speculation that the
    checkpoint brings along (MTP), which vLLM loads only when it is asked to. `guesses` are
    sentences about sizes that were counted without being stated.
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
    rotary_len: int | None = None
    sliding_window: int | None = None
    sliding_layers: int = 0
    experts: Experts | None = None
    quantization: Quantization | None = None
    chat_template: bool | None = None
    images: bool = False
    embeddings: bool = False
    encoder: bool = False
    estimated: bool = False
    stack: tuple[Layer, ...] = ()
    tower: VisionTower | None = None
    draft_layers: int = 0
    guesses: tuple[str, ...] = ()

    @property
    def q_width(self) -> int:
        """Width of the query projection, which need not be `hidden`."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of the key projection, and of the value projection."""
        return self.kv_heads * self.head_dim

    @property
    def all_layers(self) -> tuple[Layer, ...]:
        """Every layer in order; windowed ones spread evenly where only their number is known."""
        if self.stack:
            return self.stack
        dense = self.experts.dense_layers if self.experts is not None else 0
        return tuple(
            self._layer(windowed=self._is_windowed(n), dense=n < dense) for n in range(self.layers)
        )

    def _is_windowed(self, n: int) -> bool:
        return (n + 1) * self.sliding_layers // self.layers > n * self.sliding_layers // self.layers

    def _layer(self, *, windowed: bool, dense: bool) -> Layer:
        plain = self.hidden * (4 if self.model_type.startswith("gemma") else 2)
        if self.qk_norm:
            plain += 2 * self.head_dim
        experts = None if dense else self.experts
        return Layer(
            mixer=Attention(
                heads=self.heads,
                kv_heads=self.kv_heads,
                head_dim=self.head_dim,
                window=self.sliding_window if windowed else None,
                encoder=self.encoder,
            ),
            mlp=experts if experts is not None else self._mlp(),
            plain=plain,
        )

    def _mlp(self) -> Mlp:
        return Mlp(width=self.intermediate, matrices=2 if self.model_type in _UNGATED_TYPES else 3)


def read_architecture(
    config: Mapping[str, Any], *, chat_template: bool | None = None, pooling: bool = False
) -> Architecture:
    """Return the architecture that a Hugging Face config.json states.

    `pooling`: other files say that the model embeds, whatever the config calls it. A multimodal
    config is read through its `text_config`. Raises ValueError, with a sentence
    that names the key, when a number is missing, of the wrong type, or absurd.
    """
    text = _text_part(config)
    refuse_contradictions(config, text)
    model_type = str(text.get("model_type") or "")
    known = model_type in _KNOWN_TYPES or model_type in KNOWN_STACKS
    layers = number(text, "num_hidden_layers", "n_layer", "num_layers", "n_layers")
    heads = number(text, "num_attention_heads", "n_head", "n_heads")
    hidden = number(text, "hidden_size", "n_embd", "d_model")
    basics = Basics(
        model_type=model_type,
        layers=layers,
        heads=heads,
        kv_heads=optional_number(text, "num_key_value_heads") or heads,
        head_dim=optional_number(text, "head_dim") or _divided(hidden, heads),
        hidden=hidden,
        intermediate=optional_number(text, "intermediate_size", "ffn_dim") or 4 * hidden,
    )
    if not text.get("kv_lora_rank"):
        refuse_uneven_heads(heads, basics.kv_heads)
    if known:
        refuse_wrong_kinds(text, layers)
    classes = config.get("architectures")
    name = str(classes[0]) if isinstance(classes, list) and classes else ""
    lengths = read_lengths(text, model_type)
    encoder = model_type in _ENCODER_TYPES
    window, sliding = _sliding(text, layers, model_type)
    stack = read_stack(text, basics)
    tower = read_tower(config)
    quantization = read_quantization(config, text)
    experts = _experts(text, basics, stack)
    return Architecture(
        model_type=model_type,
        layers=layers,
        heads=heads,
        kv_heads=basics.kv_heads,
        head_dim=basics.head_dim,
        hidden=hidden,
        intermediate=basics.intermediate,
        vocab=number(text, "vocab_size"),
        tied_embeddings=flag(
            text, "tie_word_embeddings", default=encoder or model_type.startswith("gemma")
        ),
        qkv_bias=flag(text, "attention_bias", default=model_type in _BIASED_HEADS),
        qk_norm=model_type in _NORMED_HEADS,
        trained_len=lengths.trained,
        derived_len=lengths.derived,
        rotary_len=lengths.rotary,
        sliding_window=window,
        sliding_layers=sliding,
        experts=experts,
        quantization=quantization,
        chat_template=chat_template,
        images="vision_config" in config,
        embeddings=pooling or (bool(name) and not any(name.endswith(end) for end in _GENERATES)),
        encoder=encoder,
        estimated=not known
        or tower is not None
        or (bool(stack) and model_type not in KNOWN_STACKS)
        or (quantization is not None and not quantization.known),
        stack=stack,
        tower=tower,
        draft_layers=count(text, "num_nextn_predict_layers", 100)
        or count(text, "mtp_num_hidden_layers", 100),
        guesses=tuple(
            guesses(
                config,
                text,
                known=known or encoder or bool(stack) or model_type in _FAMILIAR_TYPES,
                kv_heads=basics.kv_heads,
                head_dim=basics.head_dim,
                intermediate=basics.intermediate if _has_plain_mlp(text, stack, experts) else None,
                experts=experts is not None,
            )
        ),
    )


def _text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in ("text_config", "llm_config", "language_config", "thinker_config"):
        part = config.get(name)
        if isinstance(part, Mapping):
            inner = _text_part(part)
            if "num_hidden_layers" in inner:
                return inner
    return config


def _divided(hidden: int, heads: int) -> int:
    if hidden % heads:
        raise ValueError(f'"hidden_size" {hidden} is not divisible by {heads} attention heads')
    return hidden // heads


def _sliding(text: Mapping[str, Any], layers: int, model_type: str) -> tuple[int | None, int]:
    """Return the window and how many layers have it; (None, 0) without one."""
    window = optional_number(text, "sliding_window")
    # Qwen2 states a window that `use_sliding_window: false` turns off.
    if window is None or not flag(text, "use_sliding_window", default=True):
        return None, 0
    kinds = text.get("layer_types")
    if isinstance(kinds, list):
        return window, min(layers, sum(kind == "sliding_attention" for kind in kinds))
    pattern = optional_number(text, "sliding_window_pattern")
    if pattern is None and model_type.startswith("gemma"):
        # Gemma 2 alternates; Gemma 3 has one full layer in six (their model cards).
        pattern = 2 if model_type == "gemma2" else 6
    if pattern is not None:
        return window, layers - layers // pattern
    # Which layers have it is not said. Of an unknown type none is counted on: a window on every
    # layer would promise more than there is.
    return (window, layers) if model_type in _WINDOW_EVERYWHERE else (None, 0)


def _has_plain_mlp(
    text: Mapping[str, Any], stack: tuple[Layer, ...], experts: Experts | None
) -> bool:
    """Whether the width of a plain MLP is the width of anything."""
    if experts is None or experts.dense_layers or experts.beside:
        return True
    if any(isinstance(layer.mlp, Mlp) for layer in stack):
        return True
    return not (text.get("moe_intermediate_size") or text.get("expert_ffn_hidden_size"))


def _experts(text: Mapping[str, Any], basics: Basics, stack: tuple[Layer, ...]) -> Experts | None:
    """The mixture that most layers have: of the stack where there is one."""
    if stack:
        return next((layer.mlp for layer in stack if isinstance(layer.mlp, Experts)), None)
    return basics.experts(text)
