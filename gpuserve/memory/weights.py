"""How many bytes of weights one rank holds, from the shape and the quantization.

A layer has q, k, v and o projections and a gated MLP of three matrices, or experts of that
form and a router; two norms. Around the layers stand the embedding, the output head (unless
tied) and a last norm. Tensor parallelism cuts the matrices and the vocabulary, replicates
norms, and replicates key and value heads when there are fewer of them than ranks
(vLLM, model_executor/layers/linear.py and vocab_parallel_embedding.py).
"""

import math

from gpuserve.memory.architecture import Architecture
from gpuserve.memory.quantization import Quantization

_VOCAB_PADDING = 64  # vocab_parallel_embedding.py pads the vocabulary to a multiple of this


def weights_bytes(
    arch: Architecture,
    *,
    tensor_parallel_size: int = 1,
    pipeline_parallel_size: int = 1,
    quantization: Quantization | None = None,
    checkpoint_bytes: int | None = None,
) -> int:
    """Return the bytes of weights on the fullest rank.

    `quantization` is what is asked for while loading, on top of what the checkpoint has.
    `checkpoint_bytes`, the sum of the checkpoint's tensors, replaces the computed total: the
    rank then gets the computed share of it.
    """
    quant = arch.quantization or quantization
    rank = _rank_bytes(arch, quant, tensor_parallel_size, pipeline_parallel_size)
    if checkpoint_bytes is None or (quantization is not None and arch.quantization is None):
        return math.ceil(rank)
    whole = _rank_bytes(arch, arch.quantization, 1, 1)
    return math.ceil(checkpoint_bytes * (rank / whole))


def _rank_bytes(arch: Architecture, quant: Quantization | None, tp: int, pp: int) -> float:
    plain = arch.param_bytes
    packed = quant.bits_per_weight / 8 if quant is not None else plain
    dense = plain if quant is not None and quant.experts_only else packed
    layers = math.ceil(arch.layers / pp)
    dense_layers = layers if arch.experts is None else min(arch.experts.dense_layers, layers)
    total = layers * (_attention(arch, tp) * dense + _norms(arch, tp) * plain)
    total += dense_layers * (3 * arch.hidden * arch.intermediate / tp) * dense
    if arch.experts is not None:
        each = 3 * arch.hidden / tp
        experts = each * arch.experts.intermediate * arch.experts.count * packed
        experts += each * arch.experts.shared_intermediate * dense
        router = arch.hidden * arch.experts.count * plain
        total += (layers - dense_layers) * (experts + router)
    vocab = arch.vocab
    if tp > 1:
        vocab = math.ceil(arch.vocab / _VOCAB_PADDING) * _VOCAB_PADDING
    # The first stage of a pipeline holds the embedding, the last one the output head.
    matrices = 1 if arch.tied_embeddings or pp > 1 else 2
    return total + (matrices * vocab * arch.hidden / tp + arch.hidden) * plain


def _attention(arch: Architecture, tp: int) -> float:
    """Weights of the four projections on one rank."""
    q_width = arch.q_width / tp
    kv_width = max(1.0, arch.kv_heads / tp) * arch.head_dim
    return arch.hidden * (2 * q_width + 2 * kv_width)


def _norms(arch: Architecture, tp: int) -> float:
    """Parameters of a layer that no quantization touches: norms and biases."""
    count = 2.0 * arch.hidden
    if arch.qkv_bias:
        count += (arch.q_width + 2 * arch.kv_width) / tp
    if arch.qk_norm:
        count += 2 * arch.head_dim
    return count
