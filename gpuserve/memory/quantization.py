"""How many bits a weight takes in a quantized checkpoint, scales and zero points included."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SCALE_BITS = 16  # AWQ, GPTQ and compressed-tensors keep one float16 scale for each group
_MXFP4_SCALE_BITS = 8  # one E8M0 exponent for 32 values (OCP Microscaling specification 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """A way of storing linear layers; embeddings, output head and norms stay 16 bit.

    `bits` of a weight; one scale (and one zero point of `bits`, if `zero_points`) for each
    `group_size` of them, None: one scale for a whole channel or tensor, which is not counted.
    `experts_only`: attention and routers are not quantized.
    """

    method: str
    bits: int
    group_size: int | None = None
    zero_points: bool = False
    scale_bits: int = _SCALE_BITS
    experts_only: bool = False

    @property
    def bits_per_weight(self) -> float:
        """For example 4.15625: 4 bits, 16/128 of a scale, 4/128 of a zero point."""
        if self.group_size is None:
            return float(self.bits)
        zero = self.bits if self.zero_points else 0
        return self.bits + (self.scale_bits + zero) / self.group_size


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
    if method == "compressed-tensors":
        return _compressed_tensors(stated)
    if method == "fp8":
        return Quantization(method=method, bits=8)
    if method == "mxfp4":
        return Quantization(
            method=method, bits=4, group_size=32, scale_bits=_MXFP4_SCALE_BITS, experts_only=True
        )
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
        # GPTQ kernels keep the tensor of zero points also where it is symmetric.
        zero_points=method == "gptq" or bool(stated.get("zero_point", True)),
    )


def requested_quantization(name: str) -> Quantization | None:
    """Return what `--quantization NAME` does to an unquantized checkpoint, None if nothing known.

    fp8 and bitsandbytes quantize while loading (vLLM, docs/features/quantization).
    """
    if name in {"fp8", "fp8_per_tensor", "fp8_per_block", "ptpc_fp8"}:
        return Quantization(method=name, bits=8)
    if name == "bitsandbytes":
        return Quantization(method=name, bits=4, group_size=64, scale_bits=8)
    return None


def _compressed_tensors(stated: Mapping[str, Any]) -> Quantization:
    groups = stated.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, Mapping) else None
    weights = first.get("weights") if isinstance(first, Mapping) else None
    if not isinstance(weights, Mapping):
        raise ValueError('"quantization_config" names no "config_groups" with "weights"')
    group = weights.get("group_size")
    return Quantization(
        method="compressed-tensors",
        bits=_whole(weights, "num_bits", default=8),
        group_size=group if isinstance(group, int) and group > 0 else None,
        zero_points=weights.get("symmetric") is False,
    )


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
