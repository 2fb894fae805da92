"""The command line and environment of one engine, from its settings and its grant.

Flags as in vLLM 0.32 and 0.33 (vllm/engine/arg_utils.py, entrypoints/launchers/cli_args.py),
variables as in vllm/envs.py. What the memory plan rests on is always written, so that what
was charged is what vLLM takes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from gpuserve.memory.architecture import Architecture
from gpuserve.memory.engine import ModelFacts
from gpuserve.memory.fraction import reserved_on
from gpuserve.memory.report import Grant
from gpuserve.plan import Capabilities, Launch
from gpuserve.profile.spec import ModelSpec
from gpuserve.readings import Gpu

# Longer than a router keeps an idle connection, so that the engine is never the one that
# closes a connection at the moment of the next request.
_KEEP_ALIVE_S = 75
_KEEP_ALIVE = "VLLM_HTTP_TIMEOUT_KEEP_ALIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How one engine is started and reached, decided by whoever knows the machine.

    Exactly one of `socket` and `port` is set. `executable` and `version` are those of the
    engine's vLLM; `auto_name` is the name that asks for routing, where routing leads to this
    model; `cpu_threads` is this engine's share of a CPU box, None where it has GPUs.
    """

    executable: str
    version: str | None
    socket: str | None
    port: int | None
    auto_name: str | None = None
    cpu_threads: int | None = None


def launch_of(
    spec: ModelSpec, grant: Grant, facts: ModelFacts, place: Place, gpus: Sequence[Gpu]
) -> Launch:
    """Return how to start the engine of *spec* with what *grant* gives it of *gpus*."""
    on_gpus = grant.gpu_memory_utilization is not None
    cards = {gpu.index: gpu for gpu in gpus}
    needs = tuple(reserved_on(cards[index], grant) for index in grant.gpus)
    return Launch(
        name=spec.name,
        argv=tuple(_argv(spec, grant, place)),
        env=tuple(_environment(spec, grant, facts, place)),
        socket=place.socket,
        port=place.port,
        gpus=grant.gpus,
        gate=tuple(f"gpu{index}" for index in grant.gpus) if on_gpus else ("cpu",),
        gate_needs=needs if on_gpus else (grant.reserved_bytes,),
        budget_bytes=grant.budget_bytes,
        context_bytes=grant.reserved_bytes - grant.budget_bytes,
        reserved_bytes=grant.reserved_bytes,
        predicted=grant.footprint,
        weights=None if facts.here or spec.model.startswith("/") else spec.model,
        revision=spec.revision,
        patience=spec.patience,
        aliases=spec.aliases,
        capabilities=capabilities_of(spec, grant, facts.architecture),
        vllm_version=place.version,
    )


def served_names(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the names that an engine started with *argv* answers to."""
    names: list[str] = []
    if "--served-model-name" in argv:
        at = argv.index("--served-model-name") + 1
        names.extend(takewhile(lambda word: not word.startswith("-"), argv[at:]))
    return tuple(names)


def keepalive_s(env: Iterable[tuple[str, str]]) -> float | None:
    """Return for how long an engine started with *env* keeps an idle connection.

    None where that is not told. vLLM hands the variable to uvicorn as `timeout_keep_alive`
    (vllm/entrypoints/launchers/api_server/entry.py, 0.32).
    """
    said = dict(env).get(_KEEP_ALIVE, "")
    return float(said) if said.isdecimal() else None


def capabilities_of(spec: ModelSpec, grant: Grant, arch: Architecture | None) -> Capabilities:
    """Return what the router may send to this model."""
    chat: bool | None = True if spec.chat_template is not None else None
    if chat is None and arch is not None:
        chat = False if arch.embeddings else arch.chat_template
    return Capabilities(
        chat=chat,
        tools=spec.tool_call_parser is not None,
        images=None if arch is None else arch.images,
        embeddings=None if arch is None else arch.embeddings,
        # vLLM needs the tokenizer for it (v1/structured_output, 0.32).
        structured="--skip-tokenizer-init" not in spec.extra_args,
        max_model_len=grant.max_model_len,
        max_num_seqs=grant.max_num_seqs,
    )


def _argv(spec: ModelSpec, grant: Grant, place: Place) -> Iterator[str]:
    yield from (place.executable, "serve", spec.model)
    if place.socket is not None:
        yield from ("--uds", place.socket)
    else:
        yield from ("--host", "127.0.0.1", "--port", str(place.port))
    names = (spec.name, *spec.aliases)
    # vLLM answers to each of these and signs with the first (entrypoints/openai/models), so that
    # a request goes to it as it came, whichever of them it carries.
    yield from ("--served-model-name", *names)
    if place.auto_name is not None and place.auto_name not in names:
        yield place.auto_name
    if grant.gpu_memory_utilization is not None:
        yield from ("--gpu-memory-utilization", _decimal(grant.gpu_memory_utilization))
        if spec.kv_cache_memory_bytes is not None:
            yield from ("--kv-cache-memory-bytes", str(spec.kv_cache_memory_bytes))
    for flag, number in (
        ("--max-model-len", grant.max_model_len),
        ("--max-num-seqs", grant.max_num_seqs),
        ("--max-num-batched-tokens", grant.max_num_batched_tokens),
    ):
        if number is not None:
            yield from (flag, str(number))
    yield from _settings(spec)
    yield from spec.extra_args


def _settings(spec: ModelSpec) -> Iterator[str]:
    """vLLM's own settings, only where the profile states them."""
    for flag, value in (
        ("--dtype", spec.dtype),
        ("--quantization", spec.quantization),
        ("--kv-cache-dtype", spec.kv_cache_dtype),
        ("--block-size", spec.block_size),
        ("--load-format", spec.load_format),
        ("--cpu-offload-gb", spec.cpu_offload_gb),
        ("--revision", spec.revision),
        ("--tokenizer", spec.tokenizer),
        ("--chat-template", spec.chat_template),
        ("--tool-call-parser", spec.tool_call_parser),
        ("--reasoning-parser", spec.reasoning_parser),
    ):
        if value is not None:
            yield from (flag, _decimal(value) if isinstance(value, float) else str(value))
    for flag, size in (
        ("--tensor-parallel-size", spec.tensor_parallel_size),
        ("--pipeline-parallel-size", spec.pipeline_parallel_size),
    ):
        if size != 1:
            yield from (flag, str(size))
    for flag, wanted in (
        ("--enforce-eager", spec.enforce_eager),
        ("--trust-remote-code", spec.trust_remote_code),
        ("--enable-auto-tool-choice", spec.enable_auto_tool_choice),
    ):
        if wanted:
            yield flag
    if spec.enable_prefix_caching is not None:
        yes = spec.enable_prefix_caching
        yield "--enable-prefix-caching" if yes else "--no-enable-prefix-caching"


def _environment(
    spec: ModelSpec, grant: Grant, facts: ModelFacts, place: Place
) -> Iterator[tuple[str, str]]:
    values = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_COLOR": "0",
        "NO_COLOR": "1",
        _KEEP_ALIVE: str(_KEEP_ALIVE_S),
    }
    if grant.gpu_memory_utilization is not None:
        # CUDA's own order is fastest first, NVML's and ours is by PCI bus.
        values["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        values["CUDA_VISIBLE_DEVICES"] = ",".join(str(index) for index in grant.gpus)
    if grant.kv_cache_space_gib is not None:
        values["VLLM_CPU_KVCACHE_SPACE"] = str(grant.kv_cache_space_gib)
    if place.cpu_threads is not None:
        # By itself every engine binds to the first cores of the box, the same for all
        # (vllm/envs.py, VLLM_CPU_OMP_THREADS_BIND=auto): a busy one starves the others.
        values["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        values["OMP_NUM_THREADS"] = str(place.cpu_threads)
    if facts.here and (spec.tokenizer is None or spec.tokenizer.startswith("/")):
        values["HF_HUB_OFFLINE"] = "1"
    values.update(spec.env)
    yield from sorted(values.items())


def _decimal(number: float) -> str:
    """Return *number* as a plain decimal: 0.5204, 2."""
    return f"{number:.6f}".rstrip("0").rstrip(".")
