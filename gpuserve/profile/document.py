"""The shape of a profile's TOML: every key, its type, its range and what it means.

Editors get the same descriptions through the JSON Schema, which is generated from here. Rules
that span several keys are in `crosschecks`; the tables about routing are in `routetables`.
"""

from typing import Annotated, Literal

from pydantic import Field

from gpuserve.lifecycle.audit import TOLD_BY_DEFAULT
from gpuserve.profile.routetables import RouteTable, RoutingTable
from gpuserve.profile.routevalues import Abilities
from gpuserve.profile.spec import Device, LimitsSpec
from gpuserve.profile.table import Table
from gpuserve.profile.values import (
    Arguments,
    BytesOrSize,
    Count,
    Env,
    EventName,
    Fraction,
    Gpus,
    Headers,
    Host,
    Name,
    NotNegative,
    Origin,
    Port,
    PublicName,
    Seconds,
    Size,
    Text,
    Url,
    Webhook,
    Weights,
    Workers,
)


class ServerTable(Table):
    """Where the endpoint listens."""

    host: Host = Field(
        "127.0.0.1", description="IPv4 address or name to listen on; 0.0.0.0: every interface."
    )
    port: Port = Field(8000, description="Port of the OpenAI-compatible endpoint.")
    workers: Workers = Field(
        1,
        description="Router processes, 1 to 64; one serves most boxes, and each takes up to one "
        "core, so more of them than cores gain nothing.",
    )
    allowed_origins: list[Origin] | None = Field(
        None,
        description="Web pages that may call the endpoint from a browser, by their origin (CORS), "
        'as vLLM\'s --allowed-origins; "*": every page. Default: none.',
        examples=[["https://chat.example.com"]],
    )


class LimitsTable(Table):
    """What clients may take of the router."""

    max_body_bytes: BytesOrSize = Field(
        LimitsSpec().max_body_bytes,
        description="Largest request body: bytes, or a size such as 64 MiB; a larger one is "
        "answered with 413 and not read. Default: 32 MiB.",
    )
    max_buffered_bytes: BytesOrSize | None = Field(
        None,
        description="Request bodies held at once, shared out evenly to the router processes: "
        "bytes, or a size; beyond it requests are answered with 429. Default: 256 MiB, or more "
        "where each process could not hold one body otherwise.",
    )
    head_timeout_s: Seconds = Field(
        LimitsSpec().head_timeout_s,
        description="Seconds that a client may take to send the head of a request; then it is "
        "answered with 408. Default: 30.",
    )
    body_timeout_s: Seconds = Field(
        LimitsSpec().body_timeout_s,
        description="Seconds that a client may take to send the body of a request; then it is "
        "answered with 408. Default: 300.",
    )


class DemandTable(Table):
    """What the engine must be able to hold at once."""

    context_tokens: Count = Field(description="Tokens of one sequence, prompt and answer.")
    concurrency: Count = Field(description="Sequences of that length at the same time.")


class PinTable(Table):
    """A measured cache, written by `gpuserve pin`; it counts while nothing below has changed."""

    kv_cache_memory_bytes: Count = Field(description="The KV cache of each GPU, in bytes.")
    vllm: Text = Field(description="The release of vLLM that it was measured with.")
    cards: Annotated[list[Text], Field(min_length=1)] = Field(
        description="The names of the GPUs that it was measured on."
    )
    settings: Text = Field(description="A digest of the model's settings at that time.")


class EngineKeys(Table):
    """What may stand in `[engine]`, for every model, and in a `[[model]]`, for that one."""

    vllm: Text | None = Field(
        None,
        description="The vLLM executable: a name on PATH, or a path, relative to the profile's "
        "directory or else to the current one. Default: vllm.",
    )
    env: Env | None = Field(
        None,
        description="Environment variables of the engine, on top of gpuserve's own; "
        "a model's are added to [engine]'s.",
    )
    extra_args: Arguments | None = Field(
        None,
        description="More arguments for `vllm serve`, for what has no key here; "
        "a model's come after [engine]'s.",
        examples=[["--seed", "1"]],
    )
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] | None = Field(
        None, description="Type of weights and activations, as vLLM's --dtype."
    )
    kv_cache_dtype: Text | None = Field(
        None, description="Type of the KV cache, as vLLM's --kv-cache-dtype, for example fp8."
    )
    max_num_seqs: Count | None = Field(
        None, description="Most sequences that run at once, as vLLM's --max-num-seqs."
    )
    max_num_batched_tokens: Count | None = Field(
        None, description="Most tokens per step, as vLLM's --max-num-batched-tokens."
    )
    enforce_eager: bool | None = Field(
        None, description="Run without CUDA graphs and torch.compile: slower, less memory."
    )
    load_format: Text | None = Field(
        None, description="How weights are read, as vLLM's --load-format."
    )
    trust_remote_code: bool | None = Field(
        None, description="Run Python code that comes with the model. Only for sources you trust."
    )
    memory: Size | None = Field(
        None,
        description="Everything the engine takes on each GPU, its CUDA context included. A model "
        "that states memory, gpu_memory_utilization, kv_cache_memory_bytes or demand replaces "
        "whichever of them [engine] states.",
    )
    gpu_memory_utilization: Fraction | None = Field(
        None, description="Fraction of each GPU's total, as vLLM's --gpu-memory-utilization."
    )
    kv_cache_memory_bytes: BytesOrSize | None = Field(
        None, description="KV cache on each GPU: bytes, or a size such as 8 GiB."
    )
    demand: DemandTable | None = Field(
        None,
        description="Context and concurrency to hold; sets max_num_seqs, and max_model_len "
        "where the same table does not state it.",
    )
    max_model_len: Count | None = Field(
        None, description="Longest sequence in tokens, as vLLM's --max-model-len."
    )
    quantization: Text | None = Field(
        None, description="As vLLM's --quantization; most checkpoints say it themselves."
    )
    block_size: Count | None = Field(None, description="Tokens per KV block, as vLLM's.")
    tensor_parallel_size: Count | None = Field(
        None, description="GPUs that share each layer, as vLLM's --tensor-parallel-size."
    )
    pipeline_parallel_size: Count | None = Field(
        None, description="Groups of GPUs that share the layers out, as vLLM's."
    )
    enable_prefix_caching: bool | None = Field(
        None, description="Keep the KV of finished prompts for the next with the same beginning."
    )
    cpu_offload_gb: NotNegative | None = Field(
        None, description="GiB of weights kept in host memory per GPU, as vLLM's; slow."
    )
    start_timeout_s: Seconds | None = Field(
        None,
        description="Seconds from the launch to the first answer of the engine; fetching weights "
        "comes before and is not counted. Default: 900.",
    )
    drain_timeout_s: NotNegative | None = Field(
        None, description="Seconds that requests in flight may take before a stop. Default: 30."
    )
    stop_timeout_s: Seconds | None = Field(
        None, description="Seconds between SIGTERM and SIGKILL. Default: 10."
    )
    liveness_timeout_s: Seconds | None = Field(
        None,
        description="Seconds without progress, while requests run, after which the engine counts "
        "as wedged and is restarted. Default: 60.",
    )
    restart_backoff_s: Seconds | None = Field(
        None, description="Seconds before the first restart; the delay grows. Default: 2."
    )
    restart_limit: Count | None = Field(
        None,
        description="Failures in a row after which a model is Failed; one that stays ready for 60 "
        "s starts from zero. Default: 5.",
    )
    hourly_restart_limit: Count | None = Field(
        None,
        description="Failures within an hour, in a row or not, after which a model is Failed. "
        "Default: 20, or restart_limit where that is more.",
    )


class EngineTable(EngineKeys):
    """Defaults for every model."""

    device: Device = Field(
        "auto", description="auto takes the GPUs that are there; cpu runs vLLM's CPU build."
    )


class ModelTable(EngineKeys):
    """One model: one vLLM engine."""

    name: Name = Field(description='What clients put in "model".')
    model: Weights = Field(
        description="Hub id, or a directory (absolute, or relative to the profile)."
    )
    aliases: list[PublicName] | None = Field(
        None, description='Other values of "model" that mean this one.'
    )
    gpus: Gpus | None = Field(
        None, description="GPU indices in PCI bus order; without it gpuserve chooses."
    )
    port: Port | None = Field(
        None,
        description="Loopback TCP port of the engine; without it a Unix socket in the run "
        "directory, which no other user can reach.",
    )
    revision: Text | None = Field(None, description="Branch, tag or commit on the hub.")
    tokenizer: Weights | None = Field(None, description="Hub id or directory of another tokenizer.")
    chat_template: Text | None = Field(
        None, description="Chat template: a file, relative to the profile, or the text itself."
    )
    tool_call_parser: Text | None = Field(
        None, description="As vLLM's --tool-call-parser; the model can then be given tools."
    )
    enable_auto_tool_choice: bool | None = Field(
        None,
        description="Let the model choose tools, as vLLM's --enable-auto-tool-choice. "
        "Default: true where tool_call_parser is given.",
    )
    reasoning_parser: Text | None = Field(None, description="As vLLM's --reasoning-parser.")
    pinned: PinTable | None = Field(
        None, description="A measured cache, written by `gpuserve pin`; delete it to plan anew."
    )


class UpstreamTable(Table):
    """A server that gpuserve routes to but does not run."""

    name: Name = Field(description="What `gpuserve status` calls it.")
    url: Url = Field(description="Base URL, without /v1.", examples=["http://127.0.0.1:8088"])
    models: Annotated[list[PublicName], Field(min_length=1)] = Field(
        description='Values of "model" that it serves.'
    )
    gpus: Gpus | None = Field(None, description="GPUs on which it holds memory.")
    reserve: Size | None = Field(None, description="What it holds on each of these GPUs.")
    capabilities: Abilities | None = Field(
        None,
        description="What its models can do, and nothing else; without it nobody knows, and it "
        "answers only what names it or a route leads there.",
    )
    max_model_len: Count | None = Field(
        None, description="Tokens of the longest sequence that its models hold."
    )


class OnEventTable(Table):
    """Who is told when something happens: a command, or a webhook."""

    events: Annotated[list[EventName], Field(min_length=1)] | None = Field(
        None,
        description="What to tell of. Default: what needs somebody's attention "
        f"({', '.join(TOLD_BY_DEFAULT)}).",
    )
    command: Annotated[Arguments, Field(min_length=1)] | None = Field(
        None,
        description="Program and arguments; it gets one JSON object on its standard input.",
        examples=[["/usr/local/bin/page", "--team", "ml"]],
    )
    url: Webhook | None = Field(
        None,
        description="A webhook; the same JSON object is its POST body. Its `text` is what chat "
        "systems show.",
        examples=["https://hooks.example.com/T0/B1"],
    )
    headers: Headers | None = Field(None, description="More HTTP headers; never printed.")
    bearer_token_file: Text | None = Field(
        None,
        description="A file that holds a token for the header Authorization, read for each "
        "request; relative to the profile.",
    )
    timeout_s: Seconds = Field(10.0, description="Seconds that one attempt may take.")


class Document(Table):
    """A gpuserve profile."""

    server: ServerTable = ServerTable()
    engine: EngineTable = EngineTable()
    model: list[ModelTable] = Field([], description="The models, one vLLM engine each.")
    upstream: list[UpstreamTable] = Field(
        [], description="Servers that gpuserve routes to but does not run."
    )
    routing: RoutingTable = RoutingTable()
    route: list[RouteTable] = Field(
        [],
        description="Rules that lead to a model, tried in this order before a prompt is "
        "classified; the first whose every condition holds decides.",
    )
    limits: LimitsTable = LimitsTable()
    on_event: list[OnEventTable] = Field([], description="Who is told when something happens.")
