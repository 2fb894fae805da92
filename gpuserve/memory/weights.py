"""How many bytes of weights one rank holds, from the shape and the quantization.

A layer has the projections of its mixer and an MLP, or experts and a router, and norms. Around
the layers stand the embedding, the output head (unless tied) and a last norm. Tensor parallelism
cuts the matrices and the vocabulary, replicates norms, and replicates key and value heads
when there are fewer of them than ranks (vLLM, model_executor/layers/linear.py and
vocab_parallel_embedding.py).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from gpuserve.memory.architecture import Architecture
from gpuserve.memory.layers import Attention, Experts, Latent, Layer, Mlp, Recurrent
from gpuserve.memory.quantization import Part, Quantization
from gpuserve.memory.stages import stage_bounds

_VOCAB_PADDING = 64  # vocab_parallel_embedding.py pads the vocabulary to a multiple of this


@dataclass(frozen=True, slots=True)
class Matrix:
    """A weight tensor as it lies on one rank: its number of weights, and its part of a layer.

    `layer` is the index of its layer, None for what stands around the layers. `plain`: never
    quantized.
    """

    weights: float
    part: Part
    layer: int | None
    plain: bool = False

    def size_bytes(self, arch: Architecture, quant: Quantization | None) -> float:
        """Return its bytes."""
        if quant is None or self.plain or quant.keeps(self.part):
            return self.weights * arch.param_bytes
        return self.weights * quant.bits_per_weight / 8


@lru_cache(maxsize=1024)  # models share shapes, and one check asks often
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
    rank = max(
        sum(m.size_bytes(arch, quant) for m in stage)
        for stage in matrices(arch, tensor_parallel_size, pipeline_parallel_size, quant)
    )
    if checkpoint_bytes is None or (quantization is not None and arch.quantization is None):
        return math.ceil(rank)
    (stored,) = matrices(arch, 1, 1, None)
    whole = sum(m.size_bytes(arch, arch.quantization) for m in stored)
    return math.ceil(checkpoint_bytes * (rank / whole))


def matrices(
    arch: Architecture, tp: int, pp: int, quant: Quantization | None
) -> list[list[Matrix]]:
    """Return every tensor of each pipeline stage, on one tensor-parallel rank.

    With `quant` None, experts have the sides of the checkpoint, else those that vLLM pads to.
    """
    layers = arch.all_layers
    stages = []
    for first, after in stage_bounds(len(layers), pp):
        stage = []
        for n in range(first, after):
            stage += [
                Matrix(weights, part, n, plain)
                for weights, part, plain in _layer(arch, layers[n], tp, quant)
            ]
        stages.append(stage)
    vocab = arch.vocab
    if tp > 1:
        vocab = math.ceil(arch.vocab / _VOCAB_PADDING) * _VOCAB_PADDING
    # The first stage of a pipeline holds the embedding, the last one the output head.
    plain = quant is None or not quant.embeddings
    embedding = Matrix(vocab * arch.hidden / tp, "head", None, plain=plain)
    stages[0].append(embedding)
    if not arch.embeddings and (not arch.tied_embeddings or pp > 1):
        stages[-1].append(embedding)  # models that pool have no head (models/adapters.py)
    stages[-1].append(Matrix(arch.hidden, "head", None, plain=True))
    if arch.tower is not None:
        stages[0].append(Matrix(arch.tower.parameters / tp, "head", None, plain=True))
    return stages


_Weights = Iterator[tuple[float, Part, bool]]


def _layer(arch: Architecture, layer: Layer, tp: int, quant: Quantization | None) -> _Weights:
    yield from _mixer(arch, layer, tp)
    yield from _mlp(arch, layer.mlp, tp, quant)
    plain: float = layer.plain
    if not arch.stack and arch.qkv_bias:
        plain += (arch.q_width + 2 * arch.kv_width) / tp
    yield plain, "attention", True


def _mixer(arch: Architecture, layer: Layer, tp: int) -> _Weights:
    match layer.mixer:
        case Attention() as own:
            q_width = own.heads * own.head_dim / tp
            kv_width = max(1.0, own.kv_heads / tp) * own.head_dim
            # A layer that reads another's cache still has its projections in Gemma's
            # checkpoints, and vLLM loads them.
            values = 1 if own.key_is_value else 2
            yield (
                arch.hidden * (q_width * (2 if own.gated else 1) + values * kv_width),
                "attention",
                False,
            )
            yield arch.hidden * q_width, "attention", False
        case Latent() as own:
            yield from _latent(arch, own, tp)
        case Recurrent() as own:
            yield own.parameters / tp, "recurrent", False


def _latent(arch: Architecture, own: Latent, tp: int) -> _Weights:
    head = own.nope_dim + own.rope_dim
    if own.q_rank is None:
        yield arch.hidden * own.heads * head / tp, "attention", False
    else:
        yield arch.hidden * own.q_rank, "attention", False  # not split
        yield own.q_rank * own.heads * head / tp, "attention", False
    yield arch.hidden * own.row, "attention", False  # not split
    yield own.kv_rank * own.heads * (own.nope_dim + own.v_dim) / tp, "attention", False
    yield own.heads * own.v_dim * arch.hidden / tp, "attention", False
    if own.index_dim:
        query = (own.q_rank or arch.hidden) * own.index_heads * own.index_dim
        yield query + arch.hidden * (own.index_dim + own.index_heads), "attention", False


def _mlp(
    arch: Architecture, mlp: Mlp | Experts | None, tp: int, quant: Quantization | None
) -> _Weights:
    match mlp:
        case Mlp():
            yield from _dense(arch.hidden, mlp.width / tp, mlp.matrices, "mlp")
        case Experts():
            hidden, inner = arch.hidden, mlp.intermediate
            if quant is not None:
                hidden, inner = quant.padded(hidden, math.ceil(inner / tp))
                inner *= tp
            for weights, part, plain in _dense(hidden, inner / tp, 3, "experts"):
                yield weights * mlp.count, part, plain
            if mlp.shared_intermediate:
                yield from _dense(arch.hidden, mlp.shared_intermediate / tp, 3, "shared")
            if mlp.beside:
                yield from _dense(arch.hidden, mlp.beside / tp, 3, "mlp")
            router: float = arch.hidden * mlp.count
            if mlp.biased:
                router += mlp.count * (1 + 2 * mlp.intermediate / tp + arch.hidden)
            yield router, "experts", True


def _dense(hidden: int, width: float, count: int, part: Part) -> _Weights:
    yield (count - 1) * hidden * width, part, False
    yield hidden * width, part, False
