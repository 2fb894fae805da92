"""One model with every setting resolved, and what it needs: the unit that placement moves.

Settings that the profile leaves open get their values here, and the launch writes the same
ones, so that what is charged is what vLLM takes.
"""

from dataclasses import dataclass, replace

from gpuserve.memory.activation import (
    CUDA_CONTEXT_BYTES,
    HOPPER_CONTEXT_BYTES,
    activation_bytes,
    cuda_graph_bytes,
    non_torch_bytes,
    tuning_bytes,
)
from gpuserve.memory.architecture import Architecture
from gpuserve.memory.drafts import Draft, draft_of
from gpuserve.memory.engineargs import EngineArgs, read_engine_args
from gpuserve.memory.error import p95_margin_bytes
from gpuserve.memory.kv import KvShape, kv_shape
from gpuserve.memory.quantization import requested_quantization
from gpuserve.memory.release import Release
from gpuserve.memory.report import Footprint
from gpuserve.memory.resident import loading_peak_bytes, resident_bytes
from gpuserve.memory.runner import pays_graphs_from_budget
from gpuserve.memory.tensors import TensorSums
from gpuserve.memory.weights import weights_bytes
from gpuserve.profile.spec import ModelSpec
from gpuserve.units import GIB

# vLLM's own default looks at the card, not at the share: 8,192 tokens on 70 GiB and more
# (engine/arg_utils.py). On a shared card a step of 8,192 tokens keeps the neighbour waiting
# for about 2 s with a 33B model and takes four times the activation memory.
DEFAULT_BATCHED_TOKENS = 2048
# Half of vLLM's default for cards below 70 GiB; more sequences than fit are preempted.
DEFAULT_MAX_NUM_SEQS = 128
# What vLLM assumes when a config states no length (config/model.py).
_UNSTATED_MODEL_LEN = 2048
_FLOAT32 = {"float32", "float"}
# Resident size of the three processes of a tiny engine on vLLM 0.32 for CPU: 2.9 GB measured.
CPU_PROCESS_BYTES = 2_900_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known about a checkpoint before it is loaded.

    `architecture` None: neither here nor in the catalogue. `tensor_bytes` is the sum of its
    tensors when their headers (or the index) were read, `tensors` the same by place, from the
    headers alone. `here`: the weights need no fetching. `source` says where the facts are from,
    for people. `draft` are the facts of the model that speculation asks for. `release` is of the
    vLLM that will run it, None: the newest that is known. `hopper`: it may run on a card of compute
    capability 9.0, whose context is larger and whose kernels for 4-bit weights are others.
    """

    architecture: Architecture | None
    tensor_bytes: int | None = None
    tensors: TensorSums | None = None
    here: bool = False
    source: str = ""
    draft: "ModelFacts | None" = None
    release: Release | None = None
    hopper: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One engine's needs on each of its ranks, at the median; sizes in bytes.

    `kv` is None when the architecture is not known; every size but the context is then 0.
    `promise_tokens` x `promise_sequences` must be held at once: the demand, or one request of
    full length, without which vLLM does not start. `margin_bytes` leads to the 95th percentile.
    `weights` are as vLLM counts them, with what loading leaves beside them. `context` is what lies
    outside of vLLM's budget, in some releases the graphs too. `loading_peak` is the most that it
    must have while it loads. `videos` of the activation peak are there because a video as long as a
    request is profiled. `first_start` is how much larger the peak of a start without a compile
    cache is. `barred_gpus` are indices of GPUs that it cannot run on, whatever they hold.
    """

    spec: ModelSpec
    kv: KvShape | None
    weights: int
    activation: int
    graphs: int
    non_torch: int
    context: int
    loading_peak: int
    margin_bytes: int
    max_model_len: int | None
    max_num_seqs: int
    max_num_batched_tokens: int
    promise_tokens: int
    promise_sequences: int
    estimated: bool
    videos: int = 0
    first_start: int = 0
    barred_gpus: frozenset[int] = frozenset()

    @property
    def ranks(self) -> int:
        """How many GPUs it takes."""
        return self.spec.tensor_parallel_size * self.spec.pipeline_parallel_size

    @property
    def fixed_bytes(self) -> int:
        """Everything inside the budget that is not KV cache."""
        return self.weights + self.activation + self.graphs + self.non_torch

    @property
    def promise_bytes(self) -> int:
        """The KV cache that the promise takes."""
        if self.kv is None:
            return 0
        return self.kv.promise_bytes(self.promise_tokens, self.promise_sequences)

    @property
    def request_bytes(self) -> int:
        """The KV cache of one request of full length."""
        return 0 if self.kv is None else self.kv.request_bytes(self.promise_tokens)

    @property
    def least_bytes(self) -> int:
        """The smallest budget that holds the promise."""
        return self.fixed_bytes + self.promise_bytes

    def footprint(self, pool_bytes: int) -> Footprint | None:
        """Return what the engine takes when vLLM gives *pool_bytes* to the KV cache."""
        if self.kv is None or self.max_model_len is None:
            return None
        tokens, requests = self.kv.capacity(pool_bytes, self.max_model_len)
        return Footprint(
            weights_bytes=self.weights,
            activation_bytes=self.activation,
            cuda_graph_bytes=self.graphs,
            non_torch_bytes=self.non_torch,
            kv_cache_bytes=max(0, pool_bytes),
            context_bytes=self.context,
            kv_cache_tokens=tokens,
            max_concurrency=requests,
            kv_bytes_per_token=self.kv.bytes_per_token,
            estimated=self.estimated,
            margin_bytes=self.margin_bytes,
            first_start_bytes=self.first_start,
        )


def resolve(spec: ModelSpec, facts: ModelFacts, *, cpu: bool = False) -> Engine:
    """Return *spec* with its open settings filled in, and what it needs of its vLLM.

    On a CPU box blocks are larger, nothing is captured, and the context is the processes'
    own memory.
    """
    arch = facts.architecture
    release = facts.release
    arguments = read_engine_args(spec.extra_args)
    if arch is not None and spec.dtype in _FLOAT32:
        arch = replace(arch, param_bytes=4)
    if arch is not None and arguments.pooling:
        arch = replace(arch, embeddings=True)
    length = _model_len(spec, arch)
    seqs = _sequences(spec)
    batched = spec.max_num_batched_tokens or _batched_tokens(arch, length, seqs)
    demand = spec.demand
    kv = None
    sizes = _Sizes()
    draft = Draft()
    if arch is not None:
        draft = _draft(spec, facts, arch, arguments)
        sizes = _sizes(spec, facts, arch, batched, seqs, arguments, draft, release, cpu=cpu)
        kv = kv_shape(
            arch,
            tensor_parallel_size=spec.tensor_parallel_size,
            pipeline_parallel_size=spec.pipeline_parallel_size,
            kv_cache_dtype=spec.kv_cache_dtype,
            block_tokens=spec.block_size,
            max_num_batched_tokens=batched,
            prefix_caching=spec.enable_prefix_caching is not False,
            asynchronous=arguments.asynchronous and not arch.embeddings,
            state_dtype=arguments.state_dtype,
            cpu=cpu,
            draft=draft.architecture,
            draft_tokens=draft.tokens,
            release=release,
        )
    estimated = arch is None or arch.estimated or draft.unknown
    inside = arch is None or pays_graphs_from_budget(arch, arguments, dict(spec.env), release)
    context = CPU_PROCESS_BYTES if cpu else context_bytes(facts)
    return Engine(
        spec=spec,
        kv=kv,
        weights=sizes.weights,
        activation=sizes.activation,
        graphs=sizes.graphs if inside else 0,
        non_torch=sizes.non_torch,
        context=context if inside else context + sizes.graphs,
        loading_peak=sizes.loading_peak,
        margin_bytes=p95_margin_bytes(
            sizes.weights,
            first_start_bytes=sizes.first_start,
            exact=facts.tensor_bytes is not None,
            estimated=estimated,
        ),
        max_model_len=length,
        max_num_seqs=seqs,
        max_num_batched_tokens=batched,
        promise_tokens=demand.context_tokens if demand else length or _UNSTATED_MODEL_LEN,
        promise_sequences=demand.concurrency if demand else 1,
        estimated=estimated,
        videos=sizes.videos,
        first_start=sizes.first_start,
    )


def context_bytes(facts: ModelFacts) -> int:
    """Return what CUDA takes of a GPU before vLLM takes its first reading."""
    return HOPPER_CONTEXT_BYTES if facts.hopper else CUDA_CONTEXT_BYTES


def _model_len(spec: ModelSpec, arch: Architecture | None) -> int | None:
    """The length to write: stated, promised, or what the model was trained for."""
    if spec.max_model_len is not None:
        return spec.max_model_len
    if spec.demand is not None:
        return spec.demand.context_tokens
    if arch is None:
        return None
    return arch.trained_len or _UNSTATED_MODEL_LEN


def _sequences(spec: ModelSpec) -> int:
    if spec.max_num_seqs is not None:
        return spec.max_num_seqs
    if spec.demand is not None:
        return spec.demand.concurrency
    return min(DEFAULT_MAX_NUM_SEQS, spec.max_num_batched_tokens or DEFAULT_MAX_NUM_SEQS)


def _batched_tokens(arch: Architecture | None, length: int | None, seqs: int) -> int:
    # vLLM wants at least as many tokens as sequences, and a pooling model cannot split a
    # prompt into chunks (config/scheduler.py, verify_max_model_len).
    least = max(DEFAULT_BATCHED_TOKENS, seqs)
    if arch is not None and arch.embeddings and length is not None:
        return max(least, length)
    return least


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    """Bytes on one rank; all 0 where the shape is not known."""

    weights: int = 0
    activation: int = 0
    graphs: int = 0
    non_torch: int = 0
    loading_peak: int = 0
    videos: int = 0
    first_start: int = 0


def _draft(spec: ModelSpec, facts: ModelFacts, arch: Architecture, arguments: EngineArgs) -> Draft:
    known = facts.draft
    return draft_of(
        arguments.speculation,
        arch,
        known.architecture if known is not None else None,
        draft_bytes=known.tensor_bytes if known is not None else None,
        tensor_parallel_size=spec.tensor_parallel_size,
    )


def _sizes(
    spec: ModelSpec,
    facts: ModelFacts,
    arch: Architecture,
    batched: int,
    seqs: int,
    arguments: EngineArgs,
    draft: Draft,
    release: Release | None,
    *,
    cpu: bool,
) -> _Sizes:
    tp, pp = spec.tensor_parallel_size, spec.pipeline_parallel_size
    asked = requested_quantization(spec.quantization or "")
    weights = rank_weights_bytes(spec, facts, arch) + draft.weights_bytes
    # UVA offloading keeps this much of each rank's weights in host memory (vLLM --cpu-offload-gb,
    # whose GB are GiB).
    weights = max(0, weights - int((spec.cpu_offload_gb or 0) * GIB))
    videos = (_model_len(spec, arch) or 0) if arguments.videos else 0
    activation, still = (
        activation_bytes(
            arch,
            max_num_batched_tokens=batched,
            max_num_seqs=seqs,
            tensor_parallel_size=tp,
            enforce_eager=spec.enforce_eager,
            images=arguments.images,
            video_tokens=video_tokens,
            release=release,
        )
        for video_tokens in (videos, 0)
    )
    if cpu:
        return _Sizes(weights=weights, activation=activation, loading_peak=weights)
    beside = resident_bytes(
        arch,
        tensor_parallel_size=tp,
        pipeline_parallel_size=pp,
        quantization=asked,
        lora=arguments.lora,
        release=release,
        hopper=facts.hopper,
    )
    graphs = cuda_graph_bytes(
        arch,
        max_num_seqs=seqs,
        max_num_batched_tokens=batched,
        enforce_eager=spec.enforce_eager,
        tensor_parallel_size=tp,
        hopper=facts.hopper,
        release=release,
    )
    tuned = tuning_bytes(
        arch,
        max_num_batched_tokens=batched,
        tensor_parallel_size=tp,
        enforce_eager=spec.enforce_eager,
        release=release,
    )
    peak = loading_peak_bytes(
        arch,
        weights + beside,
        tensor_parallel_size=tp,
        pipeline_parallel_size=pp,
        quantization=asked,
        release=release,
    )
    return _Sizes(
        weights=weights + beside,
        activation=activation,
        graphs=graphs,
        non_torch=non_torch_bytes(tensor_parallel_size=tp),
        loading_peak=peak,
        videos=activation - still,
        first_start=max(0, tuned - activation),
    )


def rank_weights_bytes(spec: ModelSpec, facts: ModelFacts, arch: Architecture) -> int:
    """Return the weights on the fullest rank: exact from headers, else computed.

    What changes while loading (quantizing, padding for kernels) is computed also where the
    headers are known.
    """
    tp, pp = spec.tensor_parallel_size, spec.pipeline_parallel_size
    asked = requested_quantization(spec.quantization or "")
    changed = (asked is not None and arch.quantization is None) or (
        arch.quantization is not None and arch.quantization.method == "mxfp4"
    )
    if facts.tensors is not None and not changed:
        return facts.tensors.rank_bytes(
            tensor_parallel_size=tp,
            pipeline_parallel_size=pp,
            kv_heads=arch.kv_heads,
            vocab=arch.vocab,
            headless=arch.embeddings,
        )
    return weights_bytes(
        arch,
        tensor_parallel_size=tp,
        pipeline_parallel_size=pp,
        quantization=asked,
        checkpoint_bytes=facts.tensor_bytes,
    )
