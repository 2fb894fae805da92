"""Where a config.json contradicts itself, and where it is silent and something had to be counted.

What cannot be loaded is refused, because vLLM, or transformers when vLLM asks it, would refuse it
as well; the rest becomes a sentence that `check` shows as a warning beside the estimate.
"""

from collections.abc import Iterator, Mapping
from typing import Any

# Names of torch.dtype; transformers looks a stated one up in torch (configuration_utils.py).
_DTYPES = frozenset(
    {"auto", "float16", "half", "bfloat16", "float32", "float", "float64", "double"}
    | {"float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "int8", "uint8"}
)
# Of `layer_types` (transformers, configuration_utils.py, ALLOWED_LAYER_TYPES) and of
# `layers_block_type`. Only these two kinds leave a layer with a cache of full length.
_FULL = frozenset({"full_attention", "attention"})
KINDS = _FULL | {
    "sliding_attention",
    "chunked_attention",
    "linear_attention",
    "mamba",
}
# Families whose class takes hidden_size / heads, or one key/value head for each head, where the
# config is silent (transformers, configuration_*.py). The others have a number of their own.
_HEAD_DIM_FOLLOWS = frozenset(
    {"llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "phi3", "olmo2", "granite", "smollm3"}
    | {"granitemoehybrid", "nemotron_h"}
)
_KV_HEADS_FOLLOW = frozenset({"llama", "phi3", "olmo2", "granite", "granitemoehybrid"})


def refuse_contradictions(config: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the key, for what no release of vLLM loads."""
    for part in (config, text):
        for key in ("torch_dtype", "dtype"):
            _refuse_dtype(key, part.get(key))
    kind = text.get("model_type")
    if kind is not None and not isinstance(kind, str):
        raise ValueError(f'"model_type" must be a string, found {kind!r:.60}')
    classes = config.get("architectures")
    if classes is not None and not (
        isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    ):
        raise ValueError(f'"architectures" must be a list of names, found {classes!r:.60}')
    for key in ("rope_scaling", "rope_parameters"):
        rope = text.get(key)
        if rope is not None and not isinstance(rope, Mapping):
            raise ValueError(f'"{key}" must be an object, found {rope!r:.60}')
    for key in ("layer_types", "layers_block_type"):
        kinds = text.get(key)
        if kinds is not None and not isinstance(kinds, list):
            raise ValueError(f'"{key}" must be a list, found {kinds!r:.60}')


def _refuse_dtype(key: str, stated: object) -> None:
    if stated is None or isinstance(stated, Mapping):  # one for each part of a multimodal model
        return
    if not isinstance(stated, str) or stated.removeprefix("torch.") not in _DTYPES:
        raise ValueError(
            f'"{key}" must name a torch dtype such as "bfloat16", found {stated!r:.60}'
        )


def refuse_uneven_heads(heads: int, kv_heads: int, key: str = "num_key_value_heads") -> None:
    """Raise ValueError where *heads* cannot share *kv_heads* (vLLM's attention asserts it)."""
    if heads % kv_heads:
        raise ValueError(
            f'"{key}" is {kv_heads}, which does not divide "num_attention_heads", {heads}'
        )


def refuse_wrong_kinds(text: Mapping[str, Any], layers: int) -> None:
    """Raise ValueError where the kinds of layers are not one for each of *layers*, or unknown."""
    for key in ("layer_types", "layers_block_type"):
        kinds = text.get(key)
        if not kinds:
            continue
        if len(kinds) != layers:
            raise ValueError(f'"{key}" names {len(kinds)} layers, "num_hidden_layers" is {layers}')
        for n, kind in enumerate(kinds):
            if kind not in KINDS:
                raise ValueError(f'"{key}[{n}]" is {kind!r:.60}, which is not known')


def guesses(
    config: Mapping[str, Any],
    text: Mapping[str, Any],
    *,
    known: bool,
    kv_heads: int,
    head_dim: int,
    intermediate: int | None,
    experts: bool,
) -> Iterator[str]:
    """Yield a sentence for each size that was counted without being stated.

    `known`: the family is known, so that only what the config leaves out is a guess.
    `intermediate` None: no layer is that wide, so that it does not matter.
    """
    kind = text.get("model_type") or ""
    if not kind:
        yield 'it does not state "model_type": the usual layout is counted, and vLLM may refuse it'
    elif not known:
        yield f'"model_type" is "{kind:.60}", which is not known: the usual layout is counted'
    if not config.get("architectures"):
        yield 'it does not state "architectures", by which vLLM knows what to run'
    latent = bool(text.get("kv_lora_rank"))
    if kind not in _KV_HEADS_FOLLOW and not latent and _silent(text, "num_key_value_heads"):
        yield f'it does not state "num_key_value_heads": {kv_heads} are counted, one for each head'
    if known and kind not in _HEAD_DIM_FOLLOWS and not latent and _silent(text, "head_dim"):
        yield (
            f'it does not state "head_dim": {head_dim} is counted, "hidden_size" / '
            '"num_attention_heads"'
        )
    if intermediate is not None and _silent(text, "intermediate_size", "ffn_dim"):
        yield f'it does not state "intermediate_size": {intermediate} is counted, 4 x "hidden_size"'
    if experts and _silent(
        text,
        "num_experts_per_tok",
        "experts_per_token",
        "top_k_experts",
        "num_experts_per_token",
    ):
        yield 'it does not state "num_experts_per_tok": 1 is counted'
    yield from _unsure_kinds(text)


def _unsure_kinds(text: Mapping[str, Any]) -> Iterator[str]:
    """Of an unknown family, whose kinds were not held against the known ones."""
    kinds = text.get("layer_types")
    layers = text.get("num_hidden_layers")
    if not isinstance(kinds, list) or not kinds:
        return
    if len(kinds) != layers:
        yield f'"layer_types" names {len(kinds)} layers, "num_hidden_layers" is {layers}'
    strange = next((kind for kind in kinds if kind not in KINDS), None)
    if strange is not None:
        yield f'"layer_types" has {strange!r:.60}, which is counted as full attention'


def _silent(text: Mapping[str, Any], *names: str) -> bool:
    return all(text.get(name) is None for name in names)
