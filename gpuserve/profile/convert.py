"""From the checked document to a Profile: `[engine]` defaults merged into each model."""

from typing import TypeVar

from gpuserve.profile.document import (
    Document,
    EngineTable,
    ModelTable,
    RoutingTable,
    UpstreamTable,
)
from gpuserve.profile.places import Places
from gpuserve.profile.spec import (
    Demand,
    ModelSpec,
    Patience,
    Profile,
    RoutingSpec,
    ServerSpec,
    UpstreamSpec,
)

T = TypeVar("T")


def profile_of(document: Document, *, path: str, places: Places) -> Profile:
    """Return the values that *document* stands for; *path* is the profile's own."""
    return Profile(
        path=path,
        server=ServerSpec(**document.server.model_dump()),
        device=document.engine.device,
        models=tuple(
            _model(index, table, document.engine, places)
            for index, table in enumerate(document.model)
        ),
        upstreams=tuple(_upstream(index, table) for index, table in enumerate(document.upstream)),
        routing=_routing(document.routing),
    )


def _model(index: int, table: ModelTable, engine: EngineTable, places: Places) -> ModelSpec:
    demand = Demand(**table.demand.model_dump()) if table.demand else None
    # A demand is nearer to the model than a default for all of them.
    max_num_seqs = demand.concurrency if demand else engine.max_num_seqs
    return ModelSpec(
        index=index,
        name=table.name,
        model=places.weights(table.model),
        aliases=tuple(table.aliases or ()),
        gpus=tuple(table.gpus) if table.gpus is not None else None,
        port=table.port,
        vllm=places.executable(_first(table.vllm, engine.vllm, "vllm")),
        memory_bytes=table.memory,
        gpu_memory_utilization=table.gpu_memory_utilization,
        kv_cache_memory_bytes=table.kv_cache_memory_bytes,
        demand=demand,
        max_model_len=_first(table.max_model_len, demand.context_tokens if demand else None, None),
        max_num_seqs=_first(table.max_num_seqs, max_num_seqs, None),
        max_num_batched_tokens=_first(
            table.max_num_batched_tokens, engine.max_num_batched_tokens, None
        ),
        dtype=_first(table.dtype, engine.dtype, None),
        quantization=table.quantization,
        kv_cache_dtype=_first(table.kv_cache_dtype, engine.kv_cache_dtype, None),
        block_size=table.block_size,
        tensor_parallel_size=_first(table.tensor_parallel_size, None, 1),
        pipeline_parallel_size=_first(table.pipeline_parallel_size, None, 1),
        enforce_eager=_first(table.enforce_eager, engine.enforce_eager, False),
        enable_prefix_caching=table.enable_prefix_caching,
        load_format=_first(table.load_format, engine.load_format, None),
        cpu_offload_gb=table.cpu_offload_gb,
        trust_remote_code=_first(table.trust_remote_code, engine.trust_remote_code, False),
        revision=table.revision,
        tokenizer=places.weights(table.tokenizer) if table.tokenizer else None,
        chat_template=places.template(table.chat_template) if table.chat_template else None,
        tool_call_parser=table.tool_call_parser,
        # A parser is named so that clients can send tools; vLLM wants to be told twice.
        enable_auto_tool_choice=_first(
            table.enable_auto_tool_choice, None, table.tool_call_parser is not None
        ),
        reasoning_parser=table.reasoning_parser,
        extra_args=(*(engine.extra_args or ()), *(table.extra_args or ())),
        env=tuple({**(engine.env or {}), **(table.env or {})}.items()),
        patience=_patience(table, engine),
    )


def _patience(table: ModelTable, engine: EngineTable) -> Patience:
    default = Patience()
    return Patience(
        start_timeout_s=_first(
            table.start_timeout_s, engine.start_timeout_s, default.start_timeout_s
        ),
        drain_timeout_s=_first(
            table.drain_timeout_s, engine.drain_timeout_s, default.drain_timeout_s
        ),
        stop_timeout_s=_first(table.stop_timeout_s, engine.stop_timeout_s, default.stop_timeout_s),
        liveness_timeout_s=_first(
            table.liveness_timeout_s, engine.liveness_timeout_s, default.liveness_timeout_s
        ),
        restart_backoff_s=_first(
            table.restart_backoff_s, engine.restart_backoff_s, default.restart_backoff_s
        ),
        restart_limit=_first(table.restart_limit, engine.restart_limit, default.restart_limit),
    )


def _upstream(index: int, table: UpstreamTable) -> UpstreamSpec:
    return UpstreamSpec(
        index=index,
        name=table.name,
        url=table.url,
        models=tuple(table.models),
        gpus=tuple(table.gpus or ()),
        reserve_bytes=table.reserve or 0,
    )


def _routing(table: RoutingTable) -> RoutingSpec:
    return RoutingSpec(
        auto=table.auto,
        code=table.code,
        general=table.general,
        default=table.default or table.general,
    )


def _first(own: T | None, default: T | None, fallback: T) -> T:
    """Return the model's own value, else `[engine]`'s, else gpuserve's or vLLM's."""
    if own is not None:
        return own
    return default if default is not None else fallback
