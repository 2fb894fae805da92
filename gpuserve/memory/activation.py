"""What an engine takes besides weights and KV cache: estimates, each with its source.

The figures reproduce the start logs of vLLM 0.19 to 0.33 that state them, within
`error.py`'s margin; only a start on the card itself tells the truth.
"""

from gpuserve.memory.architecture import Architecture
from gpuserve.units import GIB, MIB

# The context that CUDA makes before vLLM takes its first reading, so outside of its budget:
# 0.3 to 0.6 GiB on the cards seen (vLLM v1/worker/gpu_worker.py, order of init_device).
CUDA_CONTEXT_BYTES = GIB // 2
# Buffers that any profile run leaves: input ids, positions, block tables, workspaces. The
# 0.23 GiB that vLLM 0.26.1 logs for Qwen3-30B-A3B at 2,048 tokens are 0.15 by the formula
# below and this.
_ALWAYS_BYTES = 80 * MIB
# Logits in 16 bit, their float32 copy, and probabilities beside sorted values (v1/sample).
_BYTES_PER_LOGIT = 12
_ELEMENT_BYTES = 2
# Graphs share one pool, whose size follows the depth; a few MiB for each captured size.
# Qwen3-30B-A3B (48 layers) on H100: 0.14 to 0.22 GiB at 64 sequences (vLLM 0.22.1 log).
_GRAPH_BYTES = 150 * MIB
_GRAPH_BYTES_PER_LAYER = 1_700_000
_GRAPH_BYTES_PER_SIZE = 4 * MIB
_FREE_GRAPH_SIZES = 6
_MAX_GRAPH_TOKENS = 512  # vllm/config/vllm.py, max_cudagraph_capture_size
# cuBLAS workspaces and loaded kernels, inside the budget: 0.11 to 0.36 GiB in the logs of
# vLLM 0.6.5 to 0.19, more for deeper models.
_NON_TORCH_BYTES = 100 * MIB
_NON_TORCH_BYTES_PER_LAYER = 1_700_000
# Channels of NCCL and custom all-reduce; 0.45 to 1.0 GiB with everything else on two L4.
_COLLECTIVES_BYTES = 300 * MIB


def activation_bytes(
    arch: Architecture,
    *,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    tensor_parallel_size: int = 1,
) -> int:
    """Return the peak of one profile run: the widest layer, or the sampler if that is more.

    For each token a dense layer holds the gate and up projections, their product, and the
    hidden state with its residual: (3 x intermediate + 2 x hidden) x 2 bytes.
    """
    width = 3 * arch.intermediate // tensor_parallel_size
    if arch.experts is not None:
        # Each of the active experts has its own rows (fused_moe.py, intermediate_cache1..3).
        row = 3 * arch.experts.intermediate // tensor_parallel_size + arch.hidden
        width = arch.experts.active * row
    layer = (width + 2 * arch.hidden) * _ELEMENT_BYTES * max_num_batched_tokens
    sampler = 0 if arch.embeddings else max_num_seqs * arch.vocab * _BYTES_PER_LOGIT
    return max(layer, sampler) + _ALWAYS_BYTES


def cuda_graph_bytes(
    arch: Architecture, *, max_num_seqs: int, max_num_batched_tokens: int, enforce_eager: bool
) -> int:
    """Return the memory of captured graphs; 0 with enforce_eager."""
    if enforce_eager:
        return 0
    largest = min(2 * max_num_seqs, _MAX_GRAPH_TOKENS, max_num_batched_tokens)
    # Captured sizes are 1, 2, 4, then every 8 up to 256, then every 16 (vllm/config/vllm.py).
    sizes = 3 + min(largest, 256) // 8 + max(0, largest - 256) // 16
    extra = max(0, sizes - _FREE_GRAPH_SIZES) * _GRAPH_BYTES_PER_SIZE
    return _GRAPH_BYTES + arch.layers * _GRAPH_BYTES_PER_LAYER + extra


def non_torch_bytes(arch: Architecture, *, tensor_parallel_size: int = 1) -> int:
    """Return what the driver's libraries hold inside the budget on one rank."""
    shared = _COLLECTIVES_BYTES if tensor_parallel_size > 1 else 0
    return _NON_TORCH_BYTES + arch.layers * _NON_TORCH_BYTES_PER_LAYER + shared
