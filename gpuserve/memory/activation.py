"""What an engine takes besides weights and KV cache: estimates, each with its source.

Fitted constants, at most two to a term, follow from the start logs that docs/memory-accuracy.md
lists (scripts/memory_accuracy); only a start on the card itself tells the truth.
"""

from functools import lru_cache

from gpuserve.memory.architecture import Architecture
from gpuserve.memory.layers import Attention, Experts, Latent, Layer, Mlp, Recurrent
from gpuserve.memory.release import (
    Release,
    bytes_per_logit,
    captures_both,
    compiles,
    copies_embedding,
)
from gpuserve.units import MIB

# The context that CUDA makes before vLLM takes its first reading, so outside of its budget:
# 0.3 to 0.6 GiB on the cards seen (vLLM v1/worker/gpu_worker.py, order of init_device). It grows
# with the chip; an H100 with driver 580 has 527 MiB less free, for a second process 524.
CUDA_CONTEXT_BYTES = 512 * MIB
HOPPER_CONTEXT_BYTES = 528 * MIB
# Buffers that any profile run leaves: input ids, positions, block tables, workspaces. The
# 0.23 GiB that vLLM 0.26.1 logs for Qwen3-30B-A3B at 2,048 tokens are 0.15 by the formula
# below and this.
_ALWAYS_BYTES = 80 * MIB
_ELEMENT_BYTES = 2
# A little for the pool that graphs share, and for each graph. vLLM's own estimates in logs of 0.19
# to 0.26: 0.08 to 0.15 GiB for 12 to 17 graphs, 0.14 for 30, 0.53 for 86 (Qwen2.5-7B and its VL);
# a hybrid model has 0.2 more. Before 0.20, when they were not part of the budget, logs have up to
# 2.9 GiB.
_GRAPH_BYTES = 64 * MIB
_GRAPH_BYTES_EACH = 11 * MIB // 2
_MAX_GRAPH_TOKENS = 512  # vllm/config/vllm.py, max_cudagraph_capture_size
# config/attention.py, flash_attn_max_num_splits_for_cuda_graph.
_KEY_PARTS = 32
_FLOAT32_BYTES = 4
# cuBLAS workspaces and loaded kernels, inside the budget: 0.01 to 0.36 GiB in the logs of 0.6.5 to
# 0.26. With this figure the median error of the KV cache over the logs is zero.
_NON_TORCH_BYTES = 256 * MIB
# Channels of NCCL and custom all-reduce; 0.45 to 1.0 GiB with everything else on two L4.
_COLLECTIVES_BYTES = 300 * MIB


@lru_cache(maxsize=1024)  # models share shapes, and one check asks often
def activation_bytes(
    arch: Architecture,
    *,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    tensor_parallel_size: int = 1,
    enforce_eager: bool = False,
    images: bool = True,
    video_tokens: int = 0,
    release: Release | None = None,
) -> int:
    """Return the peak of one profile run: the widest layer, the sampler, or the vision tower.

    For each token a layer holds what its widest part writes, and the hidden state with its
    residual, once more where nothing is compiled: for a dense layer
    (3 x intermediate + 2 x hidden) x 2 bytes. The sampler runs once for each sequence, over the
    whole vocabulary on every rank. `images` False: none are accepted, so none are profiled;
    `video_tokens`: a video may become so many, the length of a request, 0: none is accepted.
    """
    row = token_bytes(
        arch,
        tensor_parallel_size=tensor_parallel_size,
        enforce_eager=enforce_eager,
        release=release,
    )
    run = row * max_num_batched_tokens
    sampler = 0
    if not arch.embeddings and not arch.encoder:
        sampler = max_num_seqs * arch.vocab * bytes_per_logit(release)
    embedded, tower = _vision(arch, max_num_batched_tokens, video_tokens) if images else (0, 0)
    # The tower's output stays while the decoder is profiled (gpu_model_runner.py, profile_run).
    return max(run + embedded, sampler + embedded, tower) + _ALWAYS_BYTES


def tuning_bytes(
    arch: Architecture,
    *,
    max_num_batched_tokens: int,
    tensor_parallel_size: int = 1,
    enforce_eager: bool = False,
    release: Release | None = None,
) -> int:
    """Return the peak of a first start, whose kernels are not in the compile cache; 0: no other.

    While the kernel that reads the embedding is tuned it gets a table of its own and writes two
    rows for each token: 0.26.0 printed 1.04 GiB for Qwen2.5-7B and 0.49 for deepseek-coder-33b at
    2,048 tokens, and 0.30 for the second start of the latter. Models with images read the
    embedding outside of what is compiled.
    """
    if not copies_embedding(release, enforce_eager=enforce_eager) or arch.images or arch.encoder:
        return 0
    table = arch.vocab * arch.hidden // tensor_parallel_size
    return (table + 2 * max_num_batched_tokens * arch.hidden) * _ELEMENT_BYTES


def token_bytes(
    arch: Architecture, *, tensor_parallel_size: int, enforce_eager: bool, release: Release | None
) -> int:
    """Return what one token of a profile run takes in the widest layer, hidden states included."""
    hidden = _hidden_copies(release, tensor_parallel_size, enforce_eager=enforce_eager)
    widest = max(_width(arch, layer, tensor_parallel_size) for layer in set(arch.all_layers))
    return (widest + hidden * arch.hidden) * _ELEMENT_BYTES


def _hidden_copies(release: Release | None, tp: int, *, enforce_eager: bool) -> int:
    """How many times a token's hidden state is there at the widest moment.

    Two (itself and the residual) in a compiled layer, three in an eager one; ranks add the input
    and the output of an all-reduce, and eager ones a copy of it: logs of 0.7 with two ranks need
    5.7 to 5.8 (Qwen2.5-72B: 5.66 GiB for 32,768 tokens; Qwen2.5-14B: 0.19 for 2,048).
    """
    if compiles(release, enforce_eager=enforce_eager):
        return 2 if tp == 1 else 4
    return 3 if tp == 1 else 6


def _width(arch: Architecture, layer: Layer, tp: int) -> int:
    """Elements that the widest part of a layer writes for one token."""
    return max(_mixer_width(layer, tp), _mlp_width(arch, layer, tp))


def _mlp_width(arch: Architecture, layer: Layer, tp: int) -> int:
    match layer.mlp:
        case Mlp() as mlp:
            # Gate and up together, and their product; without a gate the input and the product.
            return mlp.matrices * mlp.width // tp
        case Experts() as experts:
            # Each of the active experts has its own rows (fused_moe.py, intermediate_cache1..3).
            row = 3 * experts.intermediate // tp + arch.hidden
            return experts.active * row + 3 * experts.shared_intermediate // tp
    return 0


def _mixer_width(layer: Layer, tp: int) -> int:
    match layer.mixer:
        case Attention() as own:
            gated = 2 if own.gated else 1
            keys = max(1, own.kv_heads // tp)
            return own.head_dim * ((gated + 1) * own.heads // tp + 2 * keys)
        case Latent() as own:
            # Keys and values are written out for every head in the prefill (mla_attention.py).
            head = own.nope_dim + own.rope_dim
            return own.heads // tp * (2 * head + own.nope_dim + 2 * own.v_dim)
        case Recurrent() as own:
            # What goes in, what the convolution makes of it, and the output.
            return 3 * own.conv_width // tp
    return 0


def _vision(arch: Architecture, batched: int, video_tokens: int) -> tuple[int, int]:
    """Return what the tower's output takes, and the peak of the tower itself.

    vLLM profiles as many images (or videos) of the largest size as the encoder's budget holds:
    batched tokens, or one item where that is more (v1/core/encoder_cache_manager.py,
    compute_mm_encoder_budget). A video may fill the whole request: a log of 0.23 profiles
    Qwen2.5-VL-7B at 128,000 tokens with one of 114,688, seven times the largest image, which
    takes 15.2 GiB.
    """
    tower = arch.tower
    if tower is None:
        return 0, 0
    item = tower.image_tokens or 0
    if tower.videos and item:
        item = max(item, video_tokens // item * item)
    tokens = max(1, batched // item) * item if item else batched
    patches = tokens * tower.patches_per_token
    peak = patches * (2 * tower.inner + 8 * tower.width) * _ELEMENT_BYTES
    embedded = tokens * arch.hidden * _ELEMENT_BYTES
    return embedded, peak + embedded


def cuda_graph_bytes(
    arch: Architecture,
    *,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    enforce_eager: bool,
    tensor_parallel_size: int = 1,
    hopper: bool = False,
    release: Release | None = None,
) -> int:
    """Return the memory of captured graphs; 0 with enforce_eager, and for encoders.

    Batches of mixed work are captured in pieces for up to twice the sequences, those of decoding
    alone whole, for up to as many tokens as sequences; before 0.11 there was one of the two.
    `hopper`: on compute capability 9.0 FlashAttention 3 divides the keys of a request into up to 32
    parts, and a graph of decoding holds the output of each in 32 bit (FlashAttentionMetadataBuilder
    in v1/attention/backends/flash_attn.py, max_num_splits).
    """
    if enforce_eager or arch.encoder:
        return 0
    most = min(_MAX_GRAPH_TOKENS, max_num_batched_tokens)
    count = _captured(min(2 * max_num_seqs, most))
    if captures_both(release):
        count += _captured(min(max_num_seqs, most))
    elif not compiles(release, enforce_eager=False):
        count = _captured(min(max_num_seqs, most))
    parts = 0
    if hopper and captures_both(release):
        mixers = (layer.mixer for layer in arch.all_layers)
        row = max((x.heads * x.head_dim for x in mixers if isinstance(x, Attention)), default=0)
        parts = _KEY_PARTS * row // tensor_parallel_size * min(max_num_seqs, most) * _FLOAT32_BYTES
    return _GRAPH_BYTES + count * _GRAPH_BYTES_EACH + parts


def _captured(largest: int) -> int:
    """How many sizes are captured: 1, 2, 4, every 8 up to 256, then every 16 (config/vllm.py)."""
    few = sum(size <= largest for size in (1, 2, 4))
    return few + min(largest, 256) // 8 + max(0, largest - 256) // 16


def non_torch_bytes(*, tensor_parallel_size: int = 1) -> int:
    """Return what the driver's libraries hold inside the budget on one rank."""
    shared = _COLLECTIVES_BYTES if tensor_parallel_size > 1 else 0
    return _NON_TORCH_BYTES + shared
