"""What a model asks of the cards that it runs on: their generation, and who may use them.

Sources are files of vLLM 0.33 and NVIDIA's documentation; each rule names its own.
"""

from collections.abc import Iterator, Sequence

from gpuserve.errors import Problem
from gpuserve.memory.architecture import Architecture
from gpuserve.profile.spec import ModelSpec
from gpuserve.readings import Gpu, Machine

Capability = tuple[int, int]

# get_min_capability() of each class in vllm/model_executor/layers/quantization; vLLM ends with
# "The quantization method … is not supported for the current GPU" below it (config/vllm.py).
_LEAST: dict[str, Capability] = {
    "awq": (7, 5),
    "awq_marlin": (7, 5),
    "auto_awq": (7, 5),
    "gptq": (6, 0),
    "gptq_marlin": (6, 0),
    "auto_gptq": (6, 0),
    "fp8": (7, 5),
    "fbgemm_fp8": (8, 0),
    "fp_quant": (10, 0),
    "modelopt": (8, 0),
    "modelopt_fp4": (7, 5),
    "modelopt_mxfp8": (8, 0),
    "compressed-tensors": (7, 0),
    "experts_int8": (8, 0),
    "moe_wna16": (7, 0),
    "mxfp4": (8, 0),
    "gpt_oss_mxfp4": (8, 0),
    "torchao": (7, 5),
    "quark": (7, 0),
    "inc": (6, 0),
    "humming": (7, 5),
}
# CUDA 13, which vLLM's wheels are built with, has no code for older ones (release notes of CUDA
# 13.0, "Volta").
OLDEST_CARD: Capability = (7, 5)
_BF16: Capability = (8, 0)  # platforms/cuda.py, check_if_supports_dtype
_FP8: Capability = (8, 9)  # platforms/cuda.py, supports_fp8
_FP4: Capability = (10, 0)  # Blackwell; below it the weights are unpacked by Marlin kernels
_FP8_METHODS = frozenset(
    {"fp8", "fp8_per_tensor", "fp8_per_block", "fp8_per_channel", "fbgemm_fp8", "modelopt"}
)
_FP4_METHODS = frozenset({"modelopt_fp4", "nvfp4", "nvfp4_per_token"})
# config/model.py, _FLOAT16_NOT_SUPPORTED_MODELS
_NEVER_FP16 = frozenset({"gemma2", "gemma3", "gemma3_text", "glm4"})
_FP16 = frozenset({"half", "float16"})
_FP32 = frozenset({"float", "float32"})
# Their get_supported_act_dtypes() leave float32 out.
_NEVER_FP32 = frozenset({"awq", "awq_marlin", "auto_awq", "gptq", "gptq_marlin", "auto_gptq"})


def card_problems(
    spec: ModelSpec, arch: Architecture | None, cards: Sequence[Gpu]
) -> tuple[Problem, ...]:
    """Return what the *cards* cannot do that *spec* asks for; one problem for each matter.

    Cards whose generation is not known are not doubted.
    """
    found: list[Problem] = []
    oldest = min(
        (card for card in cards if card.compute_capability is not None),
        key=lambda card: card.compute_capability or (0, 0),
        default=None,
    )
    found += _dtype_rules(spec, arch)
    if oldest is not None and oldest.compute_capability is not None:
        has = oldest.compute_capability
        found += _too_old(spec, oldest, has)
        found += _dtype(spec, arch, oldest, has)
        found += _quantization(spec, arch, oldest, has)
        found += _cache(spec, oldest, has)
    return tuple(found)


def usage_problems(
    machine: Machine, engines: Sequence[tuple[ModelSpec, Sequence[int]]]
) -> Iterator[Problem]:
    """Yield what the modes of the cards mean for *engines*: pairs of a model and its GPUs."""
    for gpu in machine.gpus:
        users = [spec for spec, indices in engines if gpu.index in indices]
        if users:
            yield from _mode(gpu, users, mps=machine.mps)
            yield from _shared_with_people(gpu, users[0])
    if machine.mps and machine.gpus and engines:
        yield Problem(
            where="",
            message="NVIDIA's Multi-Process Service (MPS) runs here: the engines of a GPU share "
            "one server process, and a fault of one ends the others",
            hint="for engines that fail apart from each other: echo quit | nvidia-cuda-mps-control",
            warning=True,
        )


def _mode(gpu: Gpu, users: Sequence[ModelSpec], *, mps: bool) -> Iterator[Problem]:
    names = ", ".join(f'"{spec.name}"' for spec in users)
    if gpu.compute_mode == "prohibited":
        yield Problem(
            where=f"model[{users[0].index}]",
            message=f"GPU {gpu.index} ({gpu.name}) is in compute mode prohibited: no process may "
            f"use it, and {names} would",
            hint=f"nvidia-smi -i {gpu.index} -c DEFAULT",
        )
    elif gpu.compute_mode == "exclusive" and len(users) > 1 and not mps:
        yield Problem(
            where=f"model[{users[1].index}]",
            message=f"GPU {gpu.index} ({gpu.name}) is in compute mode exclusive process: one "
            f"process at a time may use it, and {names} share it; the second would end with "
            "'CUDA-capable device(s) is/are busy or unavailable'",
            hint=f"nvidia-smi -i {gpu.index} -c DEFAULT",
        )


def _shared_with_people(gpu: Gpu, first: ModelSpec) -> Iterator[Problem]:
    if gpu.display:
        yield Problem(
            where=f"model[{first.index}]",
            message=f"GPU {gpu.index} ({gpu.name}) drives a screen: what the desktop holds grows "
            "with every window, and is not promised to the engines",
            hint="keep some hundred MiB free on it, or stop the desktop",
            warning=True,
        )
    if gpu.ecc_changes:
        yield Problem(
            where=f"model[{first.index}]",
            message=f"the ECC mode of GPU {gpu.index} ({gpu.name}) changes with the next reboot, "
            "and its memory with it",
            hint="run this check again after the reboot",
            warning=True,
        )


def _too_old(spec: ModelSpec, card: Gpu, has: Capability) -> Iterator[Problem]:
    if has < OLDEST_CARD:
        yield Problem(
            where=f"model[{spec.index}]",
            message=f"{_named(card, has)}, and vLLM's builds for CUDA 13 need "
            f"{_dotted(OLDEST_CARD)} or newer",
            hint="use another card, or a vLLM that was built with CUDA 12",
        )


def _dtype_rules(spec: ModelSpec, arch: Architecture | None) -> Iterator[Problem]:
    where = f"model[{spec.index}].dtype"
    if arch is None or spec.dtype is None:
        return
    if spec.dtype in _FP16 and arch.model_type in _NEVER_FP16:
        yield Problem(
            where=where,
            message=f"vLLM refuses float16 for {arch.model_type}, whose numbers leave its range",
            hint='write dtype = "bfloat16", or leave it out',
        )
    method = arch.quantization.method if arch.quantization else None
    if spec.dtype in _FP32 and method in _NEVER_FP32:
        yield Problem(
            where=where,
            message=f"{method} weights have no kernel that computes in float32; vLLM refuses it",
            hint="leave dtype out",
        )


def _dtype(
    spec: ModelSpec, arch: Architecture | None, card: Gpu, has: Capability
) -> Iterator[Problem]:
    where = f"model[{spec.index}].dtype"
    if has >= _BF16:
        return
    if spec.dtype == "bfloat16":
        yield Problem(
            where=where,
            message=f"bfloat16 needs compute capability 8.0, {_named(card, has)}; vLLM refuses "
            "to start",
            hint='write dtype = "half"',
        )
    elif spec.dtype in {None, "auto"} and arch is not None and arch.model_type in _NEVER_FP16:
        # config/model.py, _resolve_auto_dtype: float16 is not for these, bfloat16 not for this
        # card, and float32 is what is left.
        yield Problem(
            where=where,
            message=f"{_named(card, has)}, which has no bfloat16, and {arch.model_type} cannot "
            "run in float16: vLLM takes float32, which doubles weights and KV cache",
            hint="use a card with compute capability 8.0 or more for this model",
        )


def _quantization(
    spec: ModelSpec, arch: Architecture | None, card: Gpu, has: Capability
) -> Iterator[Problem]:
    stored = arch.quantization.method if arch and arch.quantization else None
    method = spec.quantization or stored
    if method is None:
        return
    where = f"model[{spec.index}].{'quantization' if spec.quantization else 'model'}"
    least = _LEAST.get(method)
    if least is not None and has < least:
        yield Problem(
            where=where,
            message=f"{method} weights need compute capability {_dotted(least)}, "
            f"{_named(card, has)}; vLLM refuses to start",
            hint="use another checkpoint: GPTQ runs on the oldest cards, AWQ from 7.5 on",
        )
    elif method in _FP8_METHODS and has < _FP8:
        yield Problem(
            where=where,
            message=f"{_named(card, has)}, which cannot compute in FP8 (8.9 and more can): the "
            "weights are stored in 8 bit and computed in 16, so they save memory and no time",
            warning=True,
        )
    elif method in _FP4_METHODS and has < _FP4:
        yield Problem(
            where=where,
            message=f"{_named(card, has)}, which cannot compute in FP4 (10.0 and more can): the "
            "weights are stored in 4 bit and computed in 16, so they save memory and no time",
            warning=True,
        )


def _cache(spec: ModelSpec, card: Gpu, has: Capability) -> Iterator[Problem]:
    kind = spec.kv_cache_dtype or ""
    where = f"model[{spec.index}].kv_cache_dtype"
    if kind.startswith(("fp8", "nvfp4")) and has < _BF16:
        # FlashInfer and FlashAttention begin at 8.0, and Triton's kernel wants 8.9
        # (v1/attention/backends).
        yield Problem(
            where=where,
            message=f"no attention backend reads a {kind} KV cache on {_named(card, has)}; "
            "vLLM ends while it loads",
            hint="leave kv_cache_dtype out for this card",
        )
    elif kind.startswith("fp8") and has < _FP8:
        yield Problem(
            where=where,
            message=f"{_named(card, has)}: only FlashInfer reads a {kind} KV cache there, and "
            "where vLLM must take another attention backend it ends while it loads",
            hint="make sure that flashinfer is installed beside this vLLM",
            warning=True,
        )
    elif kind == "bfloat16" and has < _BF16:
        yield Problem(
            where=where,
            message=f"a bfloat16 KV cache needs compute capability 8.0, {_named(card, has)}",
            hint='write kv_cache_dtype = "float16", or leave it out',
        )


def _named(card: Gpu, has: Capability) -> str:
    return f"GPU {card.index} ({card.name}) has compute capability {_dotted(has)}"


def _dotted(capability: Capability) -> str:
    return f"{capability[0]}.{capability[1]}"
