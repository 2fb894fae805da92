"""What `extra_args` say that changes memory: images, LoRA adapters, speculation.

Flags as in vLLM 0.33 (engine/arg_utils.py). What cannot be read is left to vLLM, which will say
what is wrong with it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_DEFAULT_LORA_RANK = 16  # config/lora.py
_POOLING_WORDS = {"embed", "classify", "reward"}  # config/model.py, ConvertOption
# Methods whose drafting layers are in the model's own checkpoint (config/speculative.py).
_OWN_DRAFTS = ("mtp", "deepseek_mtp", "qwen3_next_mtp", "ernie_mtp", "glm4_moe_mtp", "mimo_mtp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Adapters that are held on the GPU at once, of at most this rank."""

    adapters: int
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """How tokens are guessed ahead: `tokens` at a time, by `model` (a hub id or a directory).

    `own_layers`: by layers of the model's own checkpoint. Neither: by looking into the prompt,
    which takes no memory to speak of.
    """

    tokens: int
    model: str | None = None
    own_layers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineArgs:
    """What the arguments ask for.

    `images` False: no images or videos are accepted; `videos` False: no videos. `pooling`: the
    model embeds, scores or classifies, so that its output head is not loaded. `asynchronous`
    False: the next step is not scheduled before the last one has ended. `state_dtype` is the type
    of recurrent states.
    """

    images: bool = True
    videos: bool = True
    pooling: bool = False
    asynchronous: bool = True
    state_dtype: str | None = None
    lora: Lora | None = None
    speculation: Speculation | None = None


def read_engine_args(arguments: Sequence[str]) -> EngineArgs:
    """Return what *arguments*, as they stand behind `vllm serve MODEL`, ask for."""
    given = dict(_pairs(arguments))
    return EngineArgs(
        images=_accepts(given, "image", "video"),
        videos=_accepts(given, "video"),
        pooling=given.get("--runner") == "pooling" or given.get("--convert") in _POOLING_WORDS,
        asynchronous="--no-async-scheduling" not in given,
        state_dtype=given.get("--mamba-ssm-cache-dtype"),
        lora=_lora(given),
        speculation=_speculation(given),
    )


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    for position, word in enumerate(arguments):
        if not word.startswith("--") and word != "-sc":
            continue
        flag, equals, value = word.partition("=")
        following = arguments[position + 1] if position + 1 < len(arguments) else None
        if not equals and following is not None and not following.startswith("--"):
            yield flag.replace("_", "-"), following
        else:
            yield flag.replace("_", "-"), value if equals else None


def _accepts(given: dict[str, str | None], *kinds: str) -> bool:
    """Whether any of *kinds* may come with a request."""
    if "--language-model-only" in given:
        return False
    limits = _object(given.get("--limit-mm-per-prompt"))
    return not limits or any(limits.get(kind) != 0 for kind in kinds)


def _lora(given: dict[str, str | None]) -> Lora | None:
    if "--enable-lora" not in given:
        return None
    return Lora(
        adapters=_whole(given.get("--max-loras")) or 1,
        rank=_whole(given.get("--max-lora-rank")) or _DEFAULT_LORA_RANK,
    )


def _speculation(given: dict[str, str | None]) -> Speculation | None:
    stated = _object(given.get("--speculative-config") or given.get("-sc"))
    prefix = "--speculative-config."
    for flag, value in given.items():
        if flag.startswith(prefix):
            stated[flag.removeprefix(prefix).replace("-", "_")] = value
    if not stated:
        return None
    model = stated.get("model")
    own = str(stated.get("method") or "") in _OWN_DRAFTS
    return Speculation(
        tokens=_whole(stated.get("num_speculative_tokens")) or 1,
        model=model if isinstance(model, str) and model != "ngram" and not own else None,
        own_layers=own,
    )


def _object(raw: str | None) -> dict[str, Any]:
    try:
        value = json.loads(raw or "null")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _whole(value: Any) -> int | None:
    try:
        return max(0, int(value))
    except (TypeError, ValueError):
        return None
