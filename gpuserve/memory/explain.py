"""Every term of one engine's memory: its figure, the formula with its numbers, and its source."""

from collections.abc import Iterator
from dataclasses import dataclass

from gpuserve.memory.activation import token_bytes
from gpuserve.memory.architecture import Architecture
from gpuserve.memory.engine import Engine, ModelFacts, context_bytes
from gpuserve.memory.kv import NULL_BLOCKS
from gpuserve.memory.release import bytes_per_logit
from gpuserve.memory.report import Grant
from gpuserve.units import gib


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One figure: bytes on each GPU (None: it is a count or a share), how it came, from where."""

    name: str
    size_bytes: int | None
    how: str
    source: str


def explained(engine: Engine, facts: ModelFacts, grant: Grant) -> tuple[Term, ...]:
    """Return the terms of *engine* as it was granted, in the order of the sum."""
    return tuple(_terms(engine, facts, grant))


def _terms(engine: Engine, facts: ModelFacts, grant: Grant) -> Iterator[Term]:
    arch, footprint = facts.architecture, grant.footprint
    if arch is None or engine.kv is None or footprint is None:
        yield Term(
            name="size",
            size_bytes=grant.reserved_bytes,
            how="as the profile states it; the shape of the model is not known",
            source="the profile",
        )
        return
    yield _weights(engine, facts, arch)
    yield from _cache(engine, grant)
    yield Term(
        name="activation peak",
        size_bytes=engine.activation,
        how=f"one profile run: the larger of {engine.max_num_batched_tokens:,} tokens x "
        f"{_token_bytes(engine, facts, arch):,} B of the widest layer and "
        f"{engine.max_num_seqs:,} sequences x {arch.vocab:,} words x "
        f"{bytes_per_logit(facts.release)} B of the sampler, and what always stays",
        source="vllm/v1/worker/gpu_model_runner.py, profile_run; gpuserve/memory/activation.py",
    )
    if engine.graphs:
        yield Term(
            name="CUDA graphs",
            size_bytes=engine.graphs,
            how=f"captured for up to {2 * engine.max_num_seqs:,} tokens, 512 at most",
            source="vllm/config/vllm.py, max_cudagraph_capture_size; fitted on start logs",
        )
    yield Term(
        name="libraries",
        size_bytes=engine.non_torch,
        how="cuBLAS workspaces and loaded kernels"
        + (", NCCL and custom all-reduce" if engine.ranks > 1 else ""),
        source="start logs of vLLM, docs/memory-accuracy.md",
    )
    yield Term(
        name="budget",
        size_bytes=grant.budget_bytes,
        how="weights + KV cache + activation + graphs + libraries" + _rounded(grant),
        source="vllm/v1/worker/utils.py, request_memory",
    )
    yield Term(
        name="outside of the budget",
        size_bytes=engine.context,
        how="the CUDA context, made before vLLM takes its first reading"
        + _unpaid(engine, facts, grant),
        source="vllm/v1/worker/gpu_worker.py, order of init_device",
    )
    yield Term(
        name="reserved",
        size_bytes=grant.reserved_bytes,
        how="budget + what is outside of it",
        source="what is charged to each of its GPUs",
    )
    yield Term(
        name="may be more by",
        size_bytes=engine.margin_bytes,
        how="95th percentile of the error; decides tight and risky" + _first(engine),
        source="docs/memory-accuracy.md",
    )
    if engine.loading_peak > engine.weights:
        yield Term(
            name="while loading",
            size_bytes=engine.loading_peak,
            how="the most that must be there before the weights are in their last form",
            source="vllm/model_executor/model_loader",
        )


def _unpaid(engine: Engine, facts: ModelFacts, grant: Grant) -> str:
    graphs = engine.context - context_bytes(facts)
    if grant.gpu_memory_utilization is None or graphs <= 0:
        return ""
    return f", and {gib(graphs)} of CUDA graphs, which this release does not pay from the budget"


def _first(engine: Engine) -> str:
    if not engine.first_start:
        return ""
    return (
        f"; a first start, before kernels are in the compile cache, takes {gib(engine.first_start)}"
    )


def _weights(engine: Engine, facts: ModelFacts, arch: Architecture) -> Term:
    quant = arch.quantization
    bits = (
        f"{quant.bits_per_weight:g} bit ({quant.method}) for quantized layers, 16 bit for the rest"
        if quant is not None
        else f"{8 * arch.param_bytes} bit"
    )
    ranks = f", the fullest of {engine.ranks} ranks" if engine.ranks > 1 else ""
    if facts.tensor_bytes is not None:
        how = f"{gib(facts.tensor_bytes)} of tensors in the checkpoint{ranks}"
        source = f"headers of the safetensors files: {facts.source}"
    else:
        how = f"{arch.layers} layers of {arch.hidden:,}, {bits}{ranks}"
        source = f"{facts.source or 'config.json'}; vllm/model_executor/layers/linear.py"
    how += "; rotary table, rounding of the allocator and what kernels keep besides"
    if engine.estimated:
        how += "; estimated, its layout is not among the known ones"
    return Term(name="weights", size_bytes=engine.weights, how=how, source=source)


def _token_bytes(engine: Engine, facts: ModelFacts, arch: Architecture) -> int:
    return token_bytes(
        arch,
        tensor_parallel_size=engine.spec.tensor_parallel_size,
        enforce_eager=engine.spec.enforce_eager,
        release=facts.release,
    )


def _cache(engine: Engine, grant: Grant) -> Iterator[Term]:
    kv, footprint = engine.kv, grant.footprint
    if kv is None or footprint is None:
        return
    source = "vllm/v1/core/kv_cache_planning.py and kv_cache_utils.py"
    length = engine.promise_tokens
    yield Term(
        name="KV cache of a token",
        size_bytes=kv.bytes_per_token,
        how="in all layers of one rank, windows and states left aside",
        source="vllm/v1/kv_cache_interface.py",
    )
    yield Term(
        name="KV cache of a request",
        size_bytes=engine.request_bytes,
        how=f"{kv.blocks_per_request(length):,} blocks of {kv.block_bytes:,} B for "
        f"{length:,} tokens",
        source=source,
    )
    yield Term(
        name="KV cache promised",
        size_bytes=engine.promise_bytes,
        how=f"{engine.promise_sequences} requests at once, and {NULL_BLOCKS} block that vLLM keeps",
        source="the profile's demand, or one request of full length",
    )
    yield Term(
        name="KV cache",
        size_bytes=footprint.kv_cache_bytes,
        how=f"{footprint.kv_cache_tokens:,} tokens = {footprint.max_concurrency:.2f} x "
        f"{grant.max_model_len or 0:,}",
        source=source,
    )


def _rounded(grant: Grant) -> str:
    if grant.gpu_memory_utilization is None:
        return ""
    return f"; {grant.gpu_memory_utilization:.4f} of what CUDA reports, rounded to four decimals"
