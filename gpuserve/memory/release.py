"""What changed from release to release of vLLM, where it changes memory; one function per rule.

A release is (major, minor), None where it is not known: then the newest rules hold. Boundaries
were read from start logs of known versions and from the source of 0.33.0, and may be off by one
release where no log of the release itself was found; the docstrings say which.
"""

import re

Release = tuple[int, int]

_VERSION = re.compile(r"v?(\d+)\.(\d+)")


def parse_release(version: str | None) -> Release | None:
    """Return (0, 33) for "0.33.0", "v0.33.1rc1", "0.33.0+cpu"; None when it cannot be told."""
    match = _VERSION.match(version or "")
    return (int(match[1]), int(match[2])) if match else None


def graphs_inside_budget(release: Release | None, *, second_runner: bool) -> bool:
    """Whether CUDA graphs are paid from fraction x total; before 0.20 they came on top of it.

    vLLM's own log line: "CUDA graph memory profiling is enabled (default since v0.21.0)"; a log of
    0.20.2 has it already, one of 0.19.2rc1 does not. The second model runner left them out again:
    its `profile_cudagraph_memory` returns 0 in 0.26 to 0.28 (v1/worker/gpu/model_runner.py;
    https://github.com/vllm-project/vllm/issues/49224), and measures since 0.29. Starts of 0.26.0
    have a cache that is larger by the graphs (docs/memory-accuracy.md).
    """
    if release is None:
        return True
    return release >= (0, 20) and not (second_runner and (0, 26) <= release < (0, 29))


def captures_both(release: Release | None) -> bool:
    """Whether decoding is captured whole beside mixed batches in pieces: CUDAGraphMode since 0.11.

    A log of 0.11.0rc2 captures both, one of 0.9.2 pieces only.
    """
    return release is None or release >= (0, 11)


def default_fraction(release: Release | None) -> float:
    """Return `--gpu-memory-utilization` when nobody says: 0.9 in logs up to 0.19, 0.92 in 0.22."""
    return 0.92 if release is None or release >= (0, 21) else 0.9


def bytes_per_logit(release: Release | None) -> int:
    """Return what the profile run's sampler holds for each of sequences x vocabulary.

    Now 16: logits in 16 bit, their float32 copy, probabilities and random numbers in float32,
    and 2 of temporaries; Triton or FlashInfer mask top-k and top-p in place (v1/sample/ops).
    Before 0.17 the logits were sorted, with indices of 8 bytes and the sort's own copies: 38, by
    the V0 logs of 0.7 (128,256 x 256 sequences: 1.22 GiB, 102,400 x 256: 0.94 GiB). A log of
    0.15 needs 38 and one of 0.17 has 16; 0.16 was not seen.
    """
    return 16 if release is None or release >= (0, 17) else 38


def batches_in_flight(release: Release | None, *, stages: int, asynchronous: bool) -> int:
    """Return how many batches a sliding window must hold at once.

    One for each pipeline stage, and one more with asynchronous scheduling, which is the default but
    on CPU and for models that pool (vllm/config/vllm.py of 0.33, max_concurrent_batches;
    platforms/cpu.py). Logs of hybrid models up to 0.25 agree with one.
    """
    if release is not None and release < (0, 26):
        return 1
    return stages + 1 if asynchronous else stages


def tokens_are_concurrency(release: Release | None) -> bool:
    """Whether the line "KV cache size: N tokens" is int(concurrency x max_model_len).

    So since 0.20 (v1/core/kv_cache_utils.py; a log of 0.20.2 of a hybrid model shows it, one of
    0.19.2rc1 does not); before, N was blocks // groups x block size.
    """
    return release is None or release >= (0, 20)


def recurrent_blocks(release: Release | None, *, prefix_caching: bool, checkpoints: bool) -> int:
    """Return the states that a request holds of each recurrent layer.

    One without prefix caching, which hybrid models have by default since about 0.26 (logs up to
    0.25 agree with one); two with it, and since 0.32 a third where the kernels export a state
    in the middle of a prefill (v1/kv_cache_interface.py, num_prefill_checkpoint_blocks).
    """
    if not prefix_caching or (release is not None and release < (0, 26)):
        return 1
    return 3 if checkpoints and (release is None or release >= (0, 32)) else 2


def latent_row_elements(release: Release | None, width: int) -> int:
    """Return the elements of one MLA cache row; 0.7.1 to 0.8.1 padded it to 256 bytes.

    vLLM pull requests 12676 and 14842: 640 elements instead of 576.
    """
    if release is not None and (0, 7) <= release < (0, 8):
        return -(-width // 128) * 128
    return width


def absorbs_output(release: Release | None) -> bool:
    """Whether MLA folded its value and output projections into one matrix: 0.7 only.

    VLLM_MLA_PERFORM_MATRIX_ABSORPTION, removed by pull request 14770 as it cost 6.7 GiB a rank.
    """
    return release is not None and (0, 7) <= release < (0, 8)


def compiles(release: Release | None, *, enforce_eager: bool) -> bool:
    """Whether layers run through torch.compile, which needs one buffer of `hidden` less.

    V1, the default since 0.8, compiles unless it is told to run eagerly.
    """
    return not enforce_eager and (release is None or release >= (0, 8))


def splits_large_blocks(release: Release | None) -> bool:
    """Whether the allocator cuts blocks above 20 MiB to size while weights are loaded.

    No longer since 0.26 at the latest (v1/worker/gpu_worker.py, _scoped_allocator_max_split):
    Qwen2.5-7B took 14.25 GiB before, 14.29 in 0.26.0.
    """
    return release is not None and release < (0, 26)


def unpacks_awq(release: Release | None) -> bool:
    """Whether AWQ weights are unpacked to 32 bit on the GPU to bring them into another order.

    In 0.26 and 0.33 (quantization/auto_awq.py, _convert_awq_to_standard_format); a repacking kernel
    did it before.
    """
    return release is None or release >= (0, 26)


def copies_embedding(release: Release | None, *, enforce_eager: bool) -> bool:
    """Whether a first start, whose kernels are not in the compile cache, holds the table twice.

    Seen with 0.26.0 and torch 2.11: while a compiled kernel that reads the embedding is tuned, it
    gets a table of random numbers (docs/memory-accuracy.md). Logs of older releases do not show it.
    """
    return not enforce_eager and (release is None or release >= (0, 26))
