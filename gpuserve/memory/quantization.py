"""How many bits a weight takes in a quantized checkpoint, scales and zero points included."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

# The parts of a layer that a checkpoint may leave as they were.
Part = Literal["attention", "mlp", "experts", "shared", "recurrent", "head"]

_SCALE_BITS = 16  # AWQ, GPTQ and compressed-tensors keep one float16 scale for each group
_MXFP4_SCALE_BITS = 8  # one E8M0 exponent for 32 values (OCP Microscaling specification 1.0)
_NVFP4_SCALE_BITS = 8  # one FP8 scale for 16 values (NVIDIA, NVFP4; modelopt's nvfp4)
_FP32_BITS = 32
# Marlin's kernels want these multiples of gpt-oss's 2,880, and vLLM pads both sides (0.10 to
# 0.19; model_executor/layers/quantization/mxfp4.py): 13.72 GiB loaded for gpt-oss-20b.
_MXFP4_INNER_MULTIPLE = 128
_MXFP4_HIDDEN_MULTIPLE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """A way of storing linear layers; embeddings, output head and norms stay 16 bit.

    `bits` of a weight; one scale (and one zero point of `bits`, if `zero_points`) for each
    `group_size` of them, None: one scale for a whole channel or tensor, which is not counted.
    `scale_block`: one float32 scale for a block of so many weights, 0: none. `experts_only`:
    attention and routers are not quantized. `kept` are further parts of a layer that the
    checkpoint lists as left alone. `embeddings`: they are quantized too (GGUF). `on_load`: vLLM
    quantizes 16-bit weights while it loads them. `known` False: the method or its settings were
    not recognized, and usual ones were assumed.
    """

    method: str
    bits: int
    group_size: int | None = None
    zero_points: bool = False
    scale_bits: int = _SCALE_BITS
    experts_only: bool = False
    kept: frozenset[Part] = frozenset()
    on_load: bool = False
    scale_block: int = 0
    embeddings: bool = False
    known: bool = True

    @property
    def bits_per_weight(self) -> float:
        """For example 4.15625: 4 bits, 16/128 of a scale, 4/128 of a zero point."""
        if self.group_size is None:
            return self.bits + (_FP32_BITS / self.scale_block if self.scale_block else 0.0)
        zero = self.bits if self.zero_points else 0
        return self.bits + (self.scale_bits + zero) / self.group_size

    def keeps(self, part: Part) -> bool:
        """Whether *part* of a layer stays in 16 bit."""
        return part in self.kept or (self.experts_only and part != "experts")

    def padded(self, hidden: int, inner: int) -> tuple[int, int]:
        """Return the sides of an expert's matrices as they lie in memory."""
        if self.method != "mxfp4":
            return hidden, inner
        return _up(hidden, _MXFP4_HIDDEN_MULTIPLE), _up(inner, _MXFP4_INNER_MULTIPLE)


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def read_quantization(config: Mapping[str, Any], text: Mapping[str, Any]) -> Quantization | None:
    """Return what `quantization_config` states, or None for an unquantized checkpoint.

    Raises ValueError when its numbers make no sense.
    """
    stated = config.get("quantization_config") or text.get("quantization_config")
    if not stated:
        return None
    if not isinstance(stated, Mapping):
        raise ValueError(f'"quantization_config" must be an object, found {stated!r:.60}')
    method = str(stated.get("quant_method") or stated.get("quant_algo") or "").lower()
    algorithm = str(stated.get("quant_algo") or "").lower()
    kept = _kept(stated)
    if method == "compressed-tensors" or (
        method.startswith("modelopt") and "config_groups" in stated
    ):
        return _compressed_tensors(stated, kept, method)
    if method.startswith("modelopt") or algorithm in {"fp8", "nvfp4"}:
        return _modelopt(method, algorithm, kept)
    if method == "fp8":
        return _fp8(stated, kept)
    if method == "fbgemm_fp8":
        return Quantization(method=method, bits=8, kept=kept)
    if method == "mxfp4":
        return Quantization(
            method=method, bits=4, group_size=32, scale_bits=_MXFP4_SCALE_BITS, experts_only=True
        )
    if method == "gguf":
        # A file of this format mixes types; Q8_0 (8 bits, a float16 scale for 32) is assumed.
        return Quantization(method=method, bits=8, group_size=32, embeddings=True, known=False)
    if method == "bitsandbytes":
        # NF4: 4 bits and a scale for 64 weights that is itself 8 bit (QLoRA, section 3).
        if stated.get("load_in_8bit"):
            return Quantization(method=method, bits=8)
        return Quantization(method=method, bits=4, group_size=64, scale_bits=8)
    bits = _whole(stated, "bits", "w_bit", default=4)
    group = _whole(stated, "group_size", "q_group_size", default=128)
    return Quantization(
        method=method or "unknown",
        bits=bits,
        group_size=group if group > 0 else None,
        # GPTQ kernels keep the tensor of zero points also where it is symmetric. Act-order adds
        # an index for each input column, 4 bytes against thousands of weights: not counted.
        zero_points=method == "gptq" or bool(stated.get("zero_point", True)),
        kept=kept,
        known=method in {"awq", "gptq", "awq_marlin", "gptq_marlin", "auto-round", "auto_awq"},
    )


def requested_quantization(name: str) -> Quantization | None:
    """Return what `--quantization NAME` does to an unquantized checkpoint, None if nothing known.

    fp8 and bitsandbytes quantize while loading (vLLM, docs/features/quantization).
    """
    if name in {"fp8", "fp8_per_tensor", "fp8_per_block", "ptpc_fp8"}:
        return Quantization(method=name, bits=8, on_load=True)
    if name == "bitsandbytes":
        return Quantization(method=name, bits=4, group_size=64, scale_bits=8, on_load=True)
    return None


def _fp8(stated: Mapping[str, Any], kept: frozenset[Part]) -> Quantization:
    block = stated.get("weight_block_size")
    if isinstance(block, list) and len(block) == 2 and all(type(n) is int and n > 0 for n in block):
        # One float32 scale for a block of, say, 128 x 128 (DeepSeek V3, section 3.3).
        return Quantization(method="fp8", bits=8, scale_block=block[0] * block[1], kept=kept)
    return Quantization(method="fp8", bits=8, kept=kept)


def _modelopt(method: str, algorithm: str, kept: frozenset[Part]) -> Quantization:
    if "fp4" in algorithm or "fp4" in method:
        return Quantization(
            method="nvfp4", bits=4, group_size=16, scale_bits=_NVFP4_SCALE_BITS, kept=kept
        )
    return Quantization(
        method="modelopt", bits=8, kept=kept, known="fp8" in algorithm or method == "modelopt"
    )


def _compressed_tensors(
    stated: Mapping[str, Any], kept: frozenset[Part], method: str
) -> Quantization:
    groups = stated.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, Mapping) else None
    weights = first.get("weights") if isinstance(first, Mapping) else None
    if not isinstance(weights, Mapping):
        raise ValueError('"quantization_config" names no "config_groups" with "weights"')
    group = weights.get("group_size")
    bits = _whole(weights, "num_bits", default=8)
    four_bit_float = bits == 4 and weights.get("type") == "float"
    size = group if isinstance(group, int) and group > 0 else None
    if four_bit_float:
        size = size or 16
    return Quantization(
        method="nvfp4" if four_bit_float and size == 16 else method,
        bits=bits,
        group_size=size,
        zero_points=weights.get("symmetric") is False,
        scale_bits=_NVFP4_SCALE_BITS if four_bit_float else _SCALE_BITS,
        kept=kept,
    )


# Words of module names, as checkpoints list what they left alone.
_PART_WORDS: dict[Part, tuple[str, ...]] = {
    "attention": ("self_attn", "attention", "q_proj", "o_proj"),
    "recurrent": ("linear_attn", "mamba", "mixer", "conv1d"),
    "shared": ("shared_expert",),
    "mlp": (".mlp.down_proj", ".mlp.gate_up_proj", "mlp.up_proj"),
    "experts": (".experts.",),
}
_FEW = 8  # first and last layers are often spared: so few names do not stand for all


def _kept(stated: Mapping[str, Any]) -> frozenset[Part]:
    """Return the parts that the list of what was left alone names for (nearly) all layers."""
    names: list[str] = []
    for key in ("ignore", "modules_to_not_convert", "ignored_layers", "exclude_modules"):
        listed = stated.get(key)
        if isinstance(listed, list):
            names += [str(name) for name in listed[:20_000]]
    return frozenset(
        part for part, words in _PART_WORDS.items() if _stands_for_all(names, words, part)
    )


def _stands_for_all(names: Iterable[str], words: tuple[str, ...], part: Part) -> bool:
    found = 0
    for name in names:
        if not any(word in name for word in words):
            continue
        if "visual" in name or "vision" in name or name.rstrip("$").endswith(".gate"):
            continue
        if part != "shared" and "shared_expert" in name:
            continue
        if part == "recurrent" and name.endswith(("conv1d", "in_proj_a", "in_proj_b")):
            continue  # small matrices that are never quantized
        if "*" in name or name.startswith("re:"):
            return True
        found += 1
    return found > _FEW


def _whole(stated: Mapping[str, Any], *names: str, default: int) -> int:
    for name in names:
        value = stated.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value <= 1 << 20:
            raise ValueError(f'"quantization_config.{name}" is {value!r:.60}')
        if value == 0:
            raise ValueError(f'"quantization_config.{name}" is 0')
        return value
    return default
