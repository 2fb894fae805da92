"""A profile after parsing: frozen values, `[engine]` defaults already merged into each model.

Nothing here is optional for want of a default, except where None says "not stated".
Sizes are bytes, durations seconds.
"""

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

Device = Literal["auto", "cuda", "cpu"]
# What `[[upstream]] capabilities` may list.
ABILITIES = ("chat", "tools", "images", "json_schema", "embeddings")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """Where the endpoint listens: `[server]`."""

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    allowed_origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSpec:
    """What clients may take of the router: `[limits]`.

    `max_body_bytes` is for one request body, `max_buffered_bytes` for all that are held at once.
    `head_timeout_s` is for the whole head of a request, `body_timeout_s` for its whole body.
    """

    max_body_bytes: int = 32 << 20
    max_buffered_bytes: int = 256 << 20
    head_timeout_s: float = 30.0
    body_timeout_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a model must hold at once: `concurrency` sequences of `context_tokens` each."""

    context_tokens: int
    concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A KV cache that was measured, in bytes on each GPU, and what it was measured with.

    It counts while `vllm` (a release), `cards` (names of GPUs) and `settings` (pins.settings_of)
    are still the same: vLLM then takes exactly this, and measures nothing.
    """

    kv_cache_memory_bytes: int
    vllm: str
    cards: tuple[str, ...]
    settings: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long the supervisor waits for one engine, in seconds, and how often it tries."""

    start_timeout_s: float = 900.0
    drain_timeout_s: float = 30.0
    stop_timeout_s: float = 10.0
    liveness_timeout_s: float = 60.0
    restart_backoff_s: float = 2.0
    restart_limit: int = 5
    hourly_restart_limit: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One `[[model]]`: one vLLM engine.

    At most one of `memory_bytes`, `gpu_memory_utilization`, `kv_cache_memory_bytes` is set
    (kv_cache_memory_bytes may stand beside gpu_memory_utilization, as vLLM wants it);
    `demand` may stand alone or beside none of them. With nothing stated the engine gets its
    fair share of what is left. `gpus` are indices in PCI bus order; None leaves the choice to
    placement. `model` is a hub id or a directory (already made absolute when it is a directory
    relative to the profile).
    """

    index: int  # position in the file: the n of `model[n]`
    name: str
    model: str
    aliases: tuple[str, ...] = ()
    gpus: tuple[int, ...] | None = None
    port: int | None = None
    vllm: str = "vllm"
    # memory
    memory_bytes: int | None = None
    gpu_memory_utilization: float | None = None
    kv_cache_memory_bytes: int | None = None
    demand: Demand | None = None
    pinned: Pin | None = None
    # vLLM's own settings, None: vLLM's default
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    dtype: str | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    block_size: int | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    enforce_eager: bool = False
    enable_prefix_caching: bool | None = None
    load_format: str | None = None
    cpu_offload_gb: float | None = None
    trust_remote_code: bool = False
    revision: str | None = None
    tokenizer: str | None = None
    chat_template: str | None = None
    tool_call_parser: str | None = None
    enable_auto_tool_choice: bool = False
    reasoning_parser: str | None = None
    extra_args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSpec:
    """One `[[upstream]]`: a server that gpuserve routes to but does not run.

    `capabilities` are of ABILITIES, None: nobody knows; `max_model_len` likewise.
    """

    index: int
    name: str
    url: str
    models: tuple[str, ...]
    gpus: tuple[int, ...] = ()
    reserve_bytes: int = 0
    capabilities: tuple[str, ...] | None = None
    max_model_len: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSpec:
    """One `[[route]]`: a rule that leads to `model` where every condition stated holds.

    `name` is the route's label. `model` is None where an earlier `[[route]]` or `[routing]` says
    which model that route has; `fallback` None: as `[routing]` says. Conditions that are not
    stated are None or empty. `metadata` and `header` are (key, values): each key has one of its
    values; header names are in lower case.
    """

    index: int
    name: str
    model: str | None = None
    fallback: tuple[str, ...] | None = None
    keywords: tuple[str, ...] = ()
    regex: tuple[str, ...] = ()
    scope: Literal["turn", "conversation"] = "conversation"
    language: tuple[str, ...] = ()
    system: tuple[str, ...] = ()
    tools: bool | None = None
    tool_names: tuple[str, ...] = ()
    images: bool | None = None
    min_prompt_tokens: int | None = None
    max_prompt_tokens: int | None = None
    kind: Literal["chat", "completion", "fim"] | None = None
    label: Literal["code", "general", "unsure"] | None = None
    metadata: tuple[tuple[str, tuple[str, ...]], ...] = ()
    header: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingSpec:
    """`[routing]` and `[[route]]`: names are of models, their aliases, or an upstream's models.

    `auto` is the model name that asks for routing. `code`, `general` and `default` are None
    when the profile does not say: then only explicit names and rules are served, and `auto` if
    there is exactly one model. `threshold` is empty (the classifier's own), one probability of
    code, or two: general below the first, code above the second. `fallback` None: the other
    models of `[routing]`. `spill_over` is in-flight requests per max_num_seqs, None: never.
    """

    auto: str = "auto"
    code: str | None = None
    general: str | None = None
    default: str | None = None
    threshold: tuple[float, ...] = ()
    fallback: tuple[str, ...] | None = None
    spill_over: float | None = None
    clamp_max_tokens: bool = False
    rules: tuple[RouteSpec, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OnEventSpec:
    """One `[[on_event]]`: exactly one of `command` and `url` is set.

    `url` and `headers` may be secrets and show in no repr.
    """

    index: int
    events: tuple[str, ...]
    command: tuple[str, ...] | None = None
    url: str | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    bearer_token_file: str | None = None
    timeout_s: float = 10.0

    @property
    def target(self) -> str:
        """Who is told, for people: the program, or the webhook's host."""
        if self.command is not None:
            return self.command[0]
        parts = urlsplit(self.url or "")
        return f"{parts.scheme}://{parts.hostname}/…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A whole profile. `path` is absolute."""

    path: str
    server: ServerSpec
    device: Device
    models: tuple[ModelSpec, ...]
    upstreams: tuple[UpstreamSpec, ...] = ()
    routing: RoutingSpec = RoutingSpec()
    limits: LimitsSpec = LimitsSpec()
    on_event: tuple[OnEventSpec, ...] = ()

    def model(self, name: str) -> ModelSpec | None:
        """Return the model of that name or alias, or None."""
        for model in self.models:
            if name == model.name or name in model.aliases:
                return model
        return None
