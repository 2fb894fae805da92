"""What loading leaves on a rank beside the weights themselves, and how much it needs meanwhile.

vLLM counts it as weights ("Model loading took"): the rounding of PyTorch's allocator, the rotary
table, copies that kernels want, and buffers for adapters.
"""

import math
from functools import lru_cache

from gpuserve.memory.architecture import Architecture
from gpuserve.memory.engineargs import Lora
from gpuserve.memory.layers import Attention, Experts, Latent, Mlp
from gpuserve.memory.quantization import Quantization
from gpuserve.memory.release import (
    Release,
    absorbs_output,
    splits_large_blocks,
    unpacks_awq,
)
from gpuserve.memory.weights import Matrix, matrices
from gpuserve.units import MIB

# PyTorch's CUDACachingAllocator: 10 MiB and more are rounded up to 2 MiB, and what is left of a
# block is split off only if it is more than 1 MiB (kMinLargeAlloc, kRoundLarge, kSmallSize).
# This explains start logs to the MiB: Qwen2.5-7B 14.19 GiB of tensors, 14.25 loaded, Qwen3-4B 7.49
# and 7.56, while Llama-3.1-8B, whose matrices are even, has nothing but its rotary table.
_LARGE_BYTES = 10 * MIB
_ROUND_BYTES = 2 * MIB
_SPLIT_BYTES = MIB
# While weights are loaded newer releases leave larger blocks whole (max_split_size_mb=20).
_WHOLE_BYTES = 20 * MIB
_AWQ_METHODS = frozenset({"awq", "auto_awq", "awq_marlin"})
_INT32_BYTES = 4
_MOST_ROTARY_LEN = 1 << 21  # a config may claim any length


@lru_cache(maxsize=1024)  # models share shapes, and one check asks often
def resident_bytes(
    arch: Architecture,
    *,
    tensor_parallel_size: int = 1,
    pipeline_parallel_size: int = 1,
    quantization: Quantization | None = None,
    lora: Lora | None = None,
    release: Release | None = None,
    hopper: bool = False,
) -> int:
    """Return what lies beside the weights of the fullest rank once the model is loaded.

    `hopper`: on a card of compute capability 9.0, whose kernels keep zero points in 16 bit.
    """
    quant = arch.quantization or quantization
    tp = tensor_parallel_size
    whole = not splits_large_blocks(release)
    slack = max(
        sum(
            _rounding(m, arch, quant, whole=whole) + _zero_points(m, quant, hopper=hopper)
            for m in stage
        )
        for stage in matrices(arch, tp, pipeline_parallel_size, quant)
    )
    return (
        slack
        + _rotary(arch)
        + _absorbed(arch, tp, pipeline_parallel_size, release)
        + _adapters(arch, tp, lora)
    )


@lru_cache(maxsize=1024)  # models share shapes, and one check asks often
def loading_peak_bytes(
    arch: Architecture,
    steady_bytes: int,
    *,
    tensor_parallel_size: int = 1,
    pipeline_parallel_size: int = 1,
    quantization: Quantization | None = None,
    release: Release | None = None,
) -> int:
    """Return the most that a rank must have while it loads, at least *steady_bytes*.

    Kernels repack a quantized layer at a time (Marlin, MXFP4), so the largest layer is there
    twice. AWQ is unpacked to 32 bit, a matrix at a time, and that copied once: where there is more
    room PyTorch takes more and keeps it until the weights are loaded (deepseek-coder-33b, 17.4 GiB:
    23.0 GiB on an idle H100). Quantizing on load went through the whole 16-bit model before 0.15;
    since then layers are quantized one by one (model_loader/reload/layerwise.py in 0.33).
    """
    quant = arch.quantization or quantization
    if quant is None:
        return steady_bytes
    plain = matrices(arch, tensor_parallel_size, pipeline_parallel_size, None)
    if quant.on_load and release is not None and release < (0, 15):
        return max(steady_bytes, *(_total(stage, arch, None) for stage in plain))
    packed = None if quant.on_load else quant
    unpacks = quant.method in _AWQ_METHODS and unpacks_awq(release)
    sizes: dict[int, float] = {}
    unpacked = 0.0
    for stage in plain:
        for matrix in stage:
            if matrix.layer is not None:
                if unpacks and _packed_linear(matrix, quant):
                    unpacked = max(unpacked, 2 * matrix.weights * _INT32_BYTES)
                size = matrix.size_bytes(arch, packed)
                sizes[matrix.layer] = sizes.get(matrix.layer, 0.0) + size
    return steady_bytes + math.ceil(max(unpacked, *sizes.values()))


def _packed_linear(matrix: Matrix, quant: Quantization) -> bool:
    """Whether *matrix* is of a linear layer in 4 bit; experts have kernels of their own."""
    return not matrix.plain and matrix.part != "experts" and not quant.keeps(matrix.part)


def _total(stage: list[Matrix], arch: Architecture, quant: Quantization | None) -> int:
    return math.ceil(sum(m.size_bytes(arch, quant) for m in stage))


def _rounding(
    matrix: Matrix, arch: Architecture, quant: Quantization | None, *, whole: bool
) -> int:
    size = matrix.weights * arch.param_bytes
    if quant is not None and not matrix.plain and not quant.keeps(matrix.part):
        size = matrix.weights * quant.bits / 8  # scales are tensors of their own
    size = int(size)
    if size < _LARGE_BYTES:
        return 0
    left = -size % _ROUND_BYTES
    return left if left <= _SPLIT_BYTES or (whole and size >= _WHOLE_BYTES) else 0


def _zero_points(matrix: Matrix, quant: Quantization | None, *, hopper: bool) -> int:
    """Zero points in 16 bit, multiplied by their scales, instead of 4 bit.

    Machete, the kernel for 4-bit weights on compute capability 9.0, wants them so
    (model_executor/kernels/linear/mixed_precision/machete.py, transform_w_zp): deepseek-coder-33b
    in AWQ takes 17.36 GiB on an H100. GPTQ's are implied by its kernels, experts have others.
    """
    if (
        not hopper
        or quant is None
        or quant.bits != 4
        or quant.group_size is None
        or not quant.zero_points
        or quant.method not in _AWQ_METHODS | {"compressed-tensors"}
        or not _packed_linear(matrix, quant)
    ):
        return 0
    return int(matrix.weights / quant.group_size * (16 - quant.bits) / 8)


def _rotary(arch: Architecture) -> int:
    """Cosines and sines for every position of each table (rotary_embedding/base.py)."""
    length = min(arch.rotary_len or arch.derived_len or arch.trained_len or 0, _MOST_ROTARY_LEN)
    mixer = next((x.mixer for x in arch.all_layers if x.mixer is not None), None)
    width = mixer.rope_dim if isinstance(mixer, Latent) else arch.head_dim
    return length * width * 2 if not arch.encoder else 0


def _absorbed(arch: Architecture, tp: int, pp: int, release: Release | None) -> int:
    """MLA keeps its key and value projections once more, in 16 bit, for decoding.

    model_executor/layers/attention/mla_attention.py, W_UK_T and W_UV.
    """
    layers = [x.mixer for x in arch.all_layers if isinstance(x.mixer, Latent)]
    if not layers:
        return 0
    one = layers[0]
    if release is not None and release < (0, 7):
        return 0
    each = one.heads // tp * (one.nope_dim + one.v_dim) * one.kv_rank * arch.param_bytes
    if absorbs_output(release):
        query = one.q_rank or arch.hidden
        each = one.heads // tp * one.kv_rank * (query + arch.hidden) * arch.param_bytes
    return math.ceil(len(layers) / pp) * each


def _adapters(arch: Architecture, tp: int, lora: Lora | None) -> int:
    """Buffers for adapters on every projection (lora/layers): A whole, B divided among ranks."""
    if lora is None:
        return 0
    hidden = arch.hidden
    total = 0.0
    for layer in arch.all_layers:
        if isinstance(layer.mixer, Attention):
            query = layer.mixer.heads * layer.mixer.head_dim / tp
            keys = max(1, layer.mixer.kv_heads / tp) * layer.mixer.head_dim
            total += 3 * hidden + query + 2 * keys + query + hidden
        if isinstance(layer.mlp, Mlp):
            total += 3 * hidden + 3 * layer.mlp.width / tp
        elif isinstance(layer.mlp, Experts):
            total += layer.mlp.count * (3 * hidden + 3 * layer.mlp.intermediate / tp)
    return int(total * lora.rank * lora.adapters * arch.param_bytes)
