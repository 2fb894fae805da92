"""The vision part of a multimodal model: its weights, and what profiling it takes.

Towers differ more than decoders do; this is the usual transformer of patches with a projector,
so a model that has one is marked as an estimate.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpuserve.memory.confignumbers import optional_number

# Tokens that the largest image becomes where the config does not say: Qwen's processors allow
# 12,845,056 pixels, 28 x 28 for a token (preprocessor_config.json of Qwen2-VL and later).
_QWEN_IMAGE_TOKENS = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionTower:
    """Vision transformer and projector.

    `parameters` are of both together; `width` and `inner` are of a layer; `patches_per_token`
    patches become one token; `image_tokens` is the most that one image becomes, None: not known.
    `videos`: it takes videos as long as a request.
    """

    parameters: int
    width: int
    inner: int
    patches_per_token: int
    image_tokens: int | None
    videos: bool = False


def read_tower(config: Mapping[str, Any]) -> VisionTower | None:
    """Return the tower that `vision_config` describes, None without one.

    Raises ValueError for absurd numbers.
    """
    vision = config.get("vision_config")
    if not isinstance(vision, Mapping):
        return None
    width = optional_number(vision, "hidden_size", "embed_dim", "width") or 1024
    depth = optional_number(vision, "num_hidden_layers", "depth", "layers") or 24
    ratio = vision.get("mlp_ratio")
    stated = optional_number(vision, "intermediate_size", "mlp_dim")
    inner = stated or int(width * (ratio if isinstance(ratio, int | float) else 4))
    merge = optional_number(vision, "spatial_merge_size") or 1
    text = config.get("text_config")
    stated_text = text.get("hidden_size") if isinstance(text, Mapping) else None
    out = stated_text if isinstance(stated_text, int) else config.get("hidden_size")
    out = out if isinstance(out, int) and out > 0 else width
    matrices = 3 if vision.get("hidden_act") == "silu" else 2
    layer = 4 * width * width + matrices * width * inner
    merged = width * merge * merge
    kind = str(vision.get("model_type") or config.get("model_type") or "")
    return VisionTower(
        parameters=depth * layer + merged * merged + merged * out,
        width=width,
        inner=inner,
        patches_per_token=merge * merge,
        image_tokens=_image_tokens(config, kind),
        videos=kind.startswith("qwen"),
    )


def _image_tokens(config: Mapping[str, Any], kind: str) -> int | None:
    stated = config.get("mm_tokens_per_image") or config.get("image_seq_length")
    if isinstance(stated, int) and 0 < stated < 1 << 20:
        return stated
    return _QWEN_IMAGE_TOKENS if kind.startswith("qwen") else None
