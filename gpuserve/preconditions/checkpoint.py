"""What a profile says of a checkpoint, against what the checkpoint says of itself."""

from collections.abc import Iterator

from gpuserve.errors import Problem
from gpuserve.memory.architecture import Architecture
from gpuserve.profile.known import KNOWN
from gpuserve.profile.spec import ModelSpec

# What `--quantization` may say for a checkpoint of each method: the names that one class of vLLM
# answers to, and those that another takes over (override_quantization_method in
# vllm/model_executor/layers/quantization, 0.33).
_AWQ = frozenset({"awq", "awq_marlin", "auto_awq", "marlin", "moe_wna16", "humming"})
_GPTQ = frozenset({"gptq", "gptq_marlin", "auto_gptq", "marlin", "moe_wna16", "humming"})
_MODELOPT = frozenset({"modelopt", "modelopt_fp4", "modelopt_mxfp8", "modelopt_mixed"})
_ACCEPTED = {
    "awq": _AWQ,
    "gptq": _GPTQ,
    "modelopt": _MODELOPT,
    "mxfp4": frozenset({"mxfp4", "gpt_oss_mxfp4"}),
}
# Methods that quantize 16-bit weights while they are loaded (vllm/config/quantization.py).
_ONLINE = frozenset(
    {"fp8", "fp8_per_tensor", "fp8_per_block", "fp8_per_channel", "int8_per_channel_weight_only"}
    | {"nvfp4_per_token", "mxfp8", "experts_int8", "torchao", "online", "bitsandbytes", "inc"}
)
# Marlin's kernels take these groups (layers/quantization/utils/marlin_utils.py,
# MARLIN_SUPPORTED_GROUP_SIZES; -1, a whole column, is None here).
_FAST_GROUPS = (None, 32, 64, 128)


def checkpoint_problems(spec: ModelSpec, arch: Architecture | None) -> tuple[Problem, ...]:
    """Return where `quantization` contradicts the checkpoint, or its kind is slow or gone."""
    if arch is None:
        return ()
    return (*_method(spec, arch), *_kernel(spec, arch))


def _method(spec: ModelSpec, arch: Architecture) -> Iterator[Problem]:
    stored = arch.quantization.method if arch.quantization else None
    asked = spec.quantization
    where = f"model[{spec.index}].quantization"
    if asked is not None and asked not in KNOWN["quantization"]:
        return  # doubted elsewhere: a later vLLM, or a plugin, may know it
    if asked is not None and stored is None and asked not in _ONLINE:
        yield Problem(
            where=where,
            message=f'"{asked}" is a way of storing weights, and those of {spec.model} are not '
            "quantized; vLLM refuses to load them so",
            hint='leave `quantization` out, name a quantized checkpoint, or write "fp8" to '
            "quantize while loading",
        )
    elif asked is not None and stored is not None and asked not in _accepted(stored):
        yield Problem(
            where=where,
            message=f'the checkpoint says that it is {stored}, the profile says "{asked}"; vLLM '
            "refuses to start",
            hint="leave `quantization` out: the checkpoint says what it is",
        )
    elif stored is not None and asked is None and stored in {"bitsandbytes", "gguf"}:
        # vllm/model_executor/layers/quantization/__init__.py of 0.32 and 0.33 names neither.
        yield Problem(
            where=f"model[{spec.index}].model",
            message=f"{stored} weights are no longer built into vLLM (0.32 and newer)",
            hint="use an AWQ, GPTQ or FP8 checkpoint of the same model",
            warning=True,
        )


def _accepted(stored: str) -> frozenset[str]:
    return _ACCEPTED.get(stored, frozenset({stored}))


def _kernel(spec: ModelSpec, arch: Architecture) -> Iterator[Problem]:
    quant = arch.quantization
    if quant is None or quant.method not in {"awq", "gptq"}:
        return
    if quant.group_size not in _FAST_GROUPS:
        yield Problem(
            where=f"model[{spec.index}].model",
            message=f"its {quant.method} groups of {quant.group_size} weights have no fast "
            "(Marlin) kernel; vLLM falls back to a slow one",
            hint="prefer a checkpoint with groups of 128",
            warning=True,
        )
    elif quant.method == "awq" and quant.bits != 4:
        # auto_awq.py, TYPE_MAP
        yield Problem(
            where=f"model[{spec.index}].model",
            message=f"its AWQ weights have {quant.bits} bits; vLLM takes 4",
            hint="use a 4-bit AWQ checkpoint, or 8-bit GPTQ",
        )
