"""What a config's rope says: how long requests may be, and how long the rotary tables are."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gpuserve.memory.confignumbers import optional_number

# Kinds whose `factor` is already inside max_position_embeddings, so that vLLM does not
# multiply it again (vllm/config/model.py, _get_and_verify_max_len).
_ALREADY_SCALED = frozenset(
    {"default", "su", "longrope", "llama3", "mrope", "yarn"}
    | {"deepseek_yarn", "deepseek_llama_scaling"}
)
# Far beyond any that was published; a file may say 1e308.
_LARGEST_FACTOR = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Tokens; None: not stated. `derived` is what vLLM takes where nobody says a length.

    `rotary` are the positions of all rotary tables together: layers share one, but windowed layers
    may have one of their own (model_executor/models/gemma3.py).
    """

    trained: int | None = None
    derived: int | None = None
    rotary: int | None = None


def read_lengths(text: Mapping[str, Any], model_type: str) -> Lengths:
    """Return the lengths of a config; raises ValueError where a rope factor makes no sense."""
    trained = optional_number(
        text, "max_position_embeddings", "n_positions", "max_seq_len", "seq_length"
    )
    if trained is None:
        return Lengths()
    tables = [int(trained * factor) for factor in _factors(text)]
    # Gemma 3's length has its factor inside already, its table has not (the same places).
    derived = trained if model_type.startswith("gemma3") else tables[0]
    return Lengths(trained=trained, derived=derived, rotary=sum(tables))


def _factors(text: Mapping[str, Any]) -> Iterator[float]:
    """Yield by how much each rotary table is longer than the training, the largest first."""
    rope = text.get("rope_scaling") or text.get("rope_parameters")
    if not isinstance(rope, Mapping):
        rope = {}
    # One for each kind of layer (transformers 5), or one and the base of the windowed layers.
    nested = [part for part in rope.values() if isinstance(part, Mapping)]
    parts = [part for n, part in enumerate(nested) if part not in nested[:n]] or [rope]
    if not nested and text.get("rope_local_base_freq") is not None:
        parts.append({})
    yield from sorted((_factor(part) for part in parts), reverse=True)


def _factor(rope: Mapping[str, Any]) -> float:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    factor = rope.get("factor")
    if factor is None:
        return 1.0
    if isinstance(factor, bool) or not isinstance(factor, int | float):
        raise ValueError(f'the rope "factor" must be a number, found {factor!r:.60}')
    if not 0 < factor <= _LARGEST_FACTOR:
        raise ValueError(f'the rope "factor" is {factor}, outside of 0 to {_LARGEST_FACTOR}')
    return 1.0 if kind in _ALREADY_SCALED else float(factor)
