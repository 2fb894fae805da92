"""From the checked document to a Profile: `[engine]` defaults merged into each model."""

from dataclasses import fields, replace
from typing import Any

from gpuserve.lifecycle.audit import TOLD_BY_DEFAULT
from gpuserve.profile.defaults import with_defaults
from gpuserve.profile.document import (
    Document,
    EngineKeys,
    EngineTable,
    LimitsTable,
    ModelTable,
    OnEventTable,
    ServerTable,
    UpstreamTable,
)
from gpuserve.profile.places import Places
from gpuserve.profile.routetables import RouteTable, RoutingTable
from gpuserve.profile.spec import (
    Demand,
    LimitsSpec,
    ModelSpec,
    OnEventSpec,
    Patience,
    Pin,
    Profile,
    RouteSpec,
    RoutingSpec,
    ServerSpec,
    UpstreamSpec,
)

_PATIENCE = tuple(field.name for field in fields(Patience))
# Keys that mean in a ModelSpec what they mean in the file, and have its default when left out.
_AS_STATED = (
    "port",
    "gpu_memory_utilization",
    "kv_cache_memory_bytes",
    "max_num_batched_tokens",
    "dtype",
    "quantization",
    "kv_cache_dtype",
    "block_size",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "enforce_eager",
    "enable_prefix_caching",
    "load_format",
    "cpu_offload_gb",
    "trust_remote_code",
    "revision",
    "tool_call_parser",
    "reasoning_parser",
)


def profile_of(document: Document, *, path: str, places: Places) -> Profile:
    """Return the values that *document* stands for; *path* is the profile's own."""
    return Profile(
        path=path,
        server=_server(document.server),
        device=document.engine.device,
        models=tuple(
            _model(index, table, document.engine, places)
            for index, table in enumerate(document.model)
        ),
        upstreams=tuple(_upstream(index, table) for index, table in enumerate(document.upstream)),
        routing=_routing(document.routing, document.route),
        limits=_limits(document.limits, document.server.workers),
        on_event=tuple(
            _on_event(index, table, places) for index, table in enumerate(document.on_event)
        ),
    )


def _server(table: ServerTable) -> ServerSpec:
    return ServerSpec(
        host=table.host,
        port=table.port,
        workers=table.workers,
        allowed_origins=tuple(table.allowed_origins or ()),
    )


def _on_event(index: int, table: OnEventTable, places: Places) -> OnEventSpec:
    command = table.command
    token = table.bearer_token_file
    return OnEventSpec(
        index=index,
        events=tuple(table.events or TOLD_BY_DEFAULT),
        command=(places.executable(command[0]), *command[1:]) if command else None,
        url=table.url,
        headers=tuple((table.headers or {}).items()),
        bearer_token_file=places.file(token) if token is not None else None,
        timeout_s=table.timeout_s,
    )


def _limits(table: LimitsTable, workers: int) -> LimitsSpec:
    usual_bytes = max(LimitsSpec().max_buffered_bytes, workers * table.max_body_bytes)
    return LimitsSpec(
        max_body_bytes=table.max_body_bytes,
        max_buffered_bytes=table.max_buffered_bytes or usual_bytes,
        head_timeout_s=table.head_timeout_s,
        body_timeout_s=table.body_timeout_s,
    )


def _model(index: int, table: ModelTable, engine: EngineTable, places: Places) -> ModelSpec:
    stated = with_defaults(_stated(table), _stated(engine))
    demand = Demand(**stated["demand"].model_dump()) if "demand" in stated else None
    template = stated.get("chat_template")
    tokenizer = stated.get("tokenizer")
    return ModelSpec(
        index=index,
        name=table.name,
        model=places.weights(table.model),
        aliases=tuple(table.aliases or ()),
        gpus=tuple(table.gpus) if table.gpus is not None else None,
        vllm=places.executable(stated.get("vllm", "vllm")),
        memory_bytes=stated.get("memory"),
        demand=demand,
        pinned=_pin(table),
        max_model_len=stated.get("max_model_len", demand and demand.context_tokens),
        max_num_seqs=stated.get("max_num_seqs", demand and demand.concurrency),
        tokenizer=places.weights(tokenizer) if tokenizer is not None else None,
        chat_template=places.template(template) if template is not None else None,
        # A parser is named so that clients can send tools; vLLM wants to be told twice.
        enable_auto_tool_choice=stated.get("enable_auto_tool_choice", "tool_call_parser" in stated),
        extra_args=(*(engine.extra_args or ()), *(table.extra_args or ())),
        env=tuple({**(engine.env or {}), **(table.env or {})}.items()),
        patience=_patience(stated),
        **{key: stated[key] for key in _AS_STATED if key in stated},
    )


def _pin(table: ModelTable) -> Pin | None:
    stated = table.pinned
    if stated is None:
        return None
    return Pin(
        kv_cache_memory_bytes=stated.kv_cache_memory_bytes,
        vllm=stated.vllm,
        cards=tuple(stated.cards),
        settings=stated.settings,
    )


def _patience(stated: dict[str, Any]) -> Patience:
    given = Patience(**{key: stated[key] for key in _PATIENCE if key in stated})
    if "hourly_restart_limit" in stated:
        return given
    # Who allows more failures in a row means more of them within the hour, too.
    return replace(given, hourly_restart_limit=max(given.hourly_restart_limit, given.restart_limit))


def _stated(table: EngineKeys) -> dict[str, Any]:
    """Return the keys of *table* that the file states, with their values."""
    return {key: getattr(table, key) for key in table.model_fields_set}


def _upstream(index: int, table: UpstreamTable) -> UpstreamSpec:
    return UpstreamSpec(
        index=index,
        name=table.name,
        url=table.url,
        models=tuple(table.models),
        gpus=tuple(table.gpus or ()),
        reserve_bytes=table.reserve or 0,
        capabilities=None if table.capabilities is None else tuple(table.capabilities),
        max_model_len=table.max_model_len,
    )


def _routing(table: RoutingTable, routes: list[RouteTable]) -> RoutingSpec:
    return RoutingSpec(
        auto=table.auto,
        code=table.code,
        general=table.general,
        default=table.default or table.general,
        threshold=tuple(table.threshold or ()),
        fallback=None if table.fallback is None else tuple(table.fallback),
        spill_over=table.spill_over,
        clamp_max_tokens=table.clamp_max_tokens,
        rules=tuple(_rule(index, route) for index, route in enumerate(routes)),
    )


def _rule(index: int, table: RouteTable) -> RouteSpec:
    name = table.name or table.model
    if name is None:  # crosschecks have refused it
        raise ValueError(f"route[{index}] has neither name nor model")
    return RouteSpec(
        index=index,
        name=name,
        model=table.model,
        fallback=None if table.fallback is None else tuple(table.fallback),
        keywords=tuple(table.keywords or ()),
        regex=tuple(table.regex or ()),
        scope=table.scope,
        language=tuple(table.language or ()),
        system=tuple(table.system or ()),
        tools=table.tools if isinstance(table.tools, bool) else None,
        tool_names=tuple(table.tools) if isinstance(table.tools, list) else (),
        images=table.images,
        min_prompt_tokens=table.min_prompt_tokens,
        max_prompt_tokens=table.max_prompt_tokens,
        kind=table.kind,
        label=table.label,
        metadata=_values(table.metadata),
        header=_values(table.header),
    )


def _values(table: dict[str, list[str]] | None) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((key, tuple(values)) for key, values in (table or {}).items())
