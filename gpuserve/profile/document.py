"""The shape of a profile's TOML: every key, its type, its range and what it means.

Editors get the same descriptions through the JSON Schema, which is generated from here. Rules
that span several keys are in `crosschecks`. Only this file, `schema` and `faults` know pydantic.
"""

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic import WithJsonSchema as JsonSchema

from gpuserve import units
from gpuserve.profile.spec import Device
from gpuserve.rundir import LONGEST_NAME_CHARS

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# What clients put in "model" is often a hub id; it stands in HTTP headers and log lines.
_PUBLIC_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*")
_LONGEST_PUBLIC_NAME_CHARS = 256
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


class Fault(ValueError):
    """A value that its type allows and its meaning does not, with the way out."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def _name(text: str) -> str:
    if len(text) > LONGEST_NAME_CHARS:
        raise Fault(f"a name has at most {LONGEST_NAME_CHARS} characters, found {len(text)}")
    if not _NAME.fullmatch(text):
        raise Fault(
            f'expected letters, digits, ".", "_" and "-", the first a letter or digit, '
            f'found "{text}"',
            "the name becomes a file name and a process name; "
            'a hub id such as "org/model" can be one of the aliases',
        )
    return text


def _public_name(text: str) -> str:
    if len(text) > _LONGEST_PUBLIC_NAME_CHARS or not _PUBLIC_NAME.fullmatch(text):
        raise Fault(
            f'expected at most {_LONGEST_PUBLIC_NAME_CHARS} letters, digits and "._:/@+-", '
            f'found "{text[:80]}"',
            "the name travels in HTTP headers",
        )
    return text


def _size(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise Fault(f'a size needs a unit: expected for example "50 GiB", found {value}')
    return units.parse_bytes(value) if isinstance(value, str) else value


def _bytes_or_size(value: Any) -> Any:
    return units.parse_bytes(value) if isinstance(value, str) else value


def _host(text: str) -> str:
    if ":" in text:
        raise Fault(
            f'expected an IPv4 address or a name, found "{text}"',
            "IPv6 addresses are not supported, and the port has a key of its own: `port`",
        )
    if not _HOST.fullmatch(text):
        raise Fault(f'expected an IPv4 address or a name such as "127.0.0.1", found "{text}"')
    numbers = text.split(".")
    if all(number.isdigit() for number in numbers) and (
        len(numbers) != 4 or any(int(number) > 255 for number in numbers)
    ):
        raise Fault(f'"{text}" is not an IPv4 address')
    return text


def _url(text: str) -> str:
    expected = f'expected a URL such as "http://127.0.0.1:8088", found "{text}"'
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise Fault(f"{expected}: {error}") from error
    if url.scheme not in {"http", "https"} or not url.hostname or port == 0 or " " in text:
        raise Fault(expected)
    if url.query or url.fragment or url.username or url.password:
        raise Fault(f"{expected}: a query, a fragment or a password cannot stand in it")
    if url.path.rstrip("/").endswith("/v1"):
        raise Fault(
            f'expected the server\'s base URL, found "{text}"',
            "leave out /v1: requests keep the path that the client asked for",
        )
    return text.rstrip("/")


def _printable(text: str) -> str:
    if text.startswith("-") or any(char.isspace() or not char.isprintable() for char in text):
        raise Fault(f'expected a hub id such as "org/model" or a directory, found "{text}"')
    return text


def _variables(env: dict[str, str]) -> dict[str, str]:
    for key, value in env.items():
        if not _VARIABLE.fullmatch(key):
            raise Fault(f'"{key}" is not the name of an environment variable')
        if "\0" in value:
            raise Fault(f'the value of "{key}" holds a zero byte')
    return env


def _gpus(indices: list[int]) -> list[int]:
    if len(set(indices)) != len(indices):
        raise Fault(f"expected each GPU once, found {indices}")
    return indices


def _arguments(words: list[str]) -> list[str]:
    if any("\0" in word for word in words):
        raise Fault("an argument holds a zero byte")
    return words


_SIZE_SCHEMA = JsonSchema(
    {
        "type": "string",
        "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(KiB|MiB|GiB|TiB)\s*$",
        "examples": ["50 GiB", "512 MiB"],
    }
)
Name = Annotated[
    str,
    AfterValidator(_name),
    JsonSchema(
        {
            "type": "string",
            "pattern": f"^{_NAME.pattern}$",
            "maxLength": LONGEST_NAME_CHARS,
        }
    ),
]
PublicName = Annotated[
    str,
    AfterValidator(_public_name),
    JsonSchema(
        {
            "type": "string",
            "pattern": f"^{_PUBLIC_NAME.pattern}$",
            "maxLength": _LONGEST_PUBLIC_NAME_CHARS,
        }
    ),
]
Size = Annotated[int, Field(gt=0), BeforeValidator(_size), _SIZE_SCHEMA]
BytesOrSize = Annotated[
    int,
    Field(gt=0),
    BeforeValidator(_bytes_or_size),
    JsonSchema({"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, _SIZE_SCHEMA.json_schema]}),
]
Text = Annotated[str, Field(min_length=1)]
Weights = Annotated[Text, AfterValidator(_printable)]
Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Gpus = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), AfterValidator(_gpus)]
Env = Annotated[dict[str, str], AfterValidator(_variables)]
Arguments = Annotated[list[str], AfterValidator(_arguments)]


class Table(BaseModel):
    """A TOML table: no key that is not named here, no type that is not exact."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ServerTable(Table):
    """Where the endpoint listens."""

    host: Annotated[Text, AfterValidator(_host)] = Field(
        "127.0.0.1", description="IPv4 address or name to listen on; 0.0.0.0: every interface."
    )
    port: Port = Field(8000, description="Port of the OpenAI-compatible endpoint.")
    workers: Count = Field(
        1, description="Router processes; one serves most boxes, and each takes up to one core."
    )


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
    start_timeout_s: Seconds | None = Field(
        None,
        description="Seconds from the launch to the first answer of the engine; fetching weights "
        "comes before and is not counted. Default: 900.",
    )
    drain_timeout_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
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
        None, description="Failures in a row after which a model is Failed. Default: 5."
    )


class EngineTable(EngineKeys):
    """Defaults for every model."""

    device: Device = Field(
        "auto", description="auto takes the GPUs that are there; cpu runs vLLM's CPU build."
    )


class DemandTable(Table):
    """What the engine must be able to hold at once."""

    context_tokens: Count = Field(description="Tokens of one sequence, prompt and answer.")
    concurrency: Count = Field(description="Sequences of that length at the same time.")


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
    memory: Size | None = Field(
        None, description="Everything the engine takes on each GPU, its CUDA context included."
    )
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = Field(
        None, description="Fraction of each GPU's total, as vLLM's --gpu-memory-utilization."
    )
    kv_cache_memory_bytes: BytesOrSize | None = Field(
        None, description="KV cache on each GPU: bytes, or a size such as 8 GiB."
    )
    demand: DemandTable | None = Field(
        None,
        description="Context and concurrency to hold; sets max_num_seqs, and max_model_len "
        "where that is not stated.",
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
    cpu_offload_gb: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None, description="GiB of weights kept in host memory per GPU, as vLLM's; slow."
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
        None, description="Let the model choose tools, as vLLM's --enable-auto-tool-choice."
    )
    reasoning_parser: Text | None = Field(None, description="As vLLM's --reasoning-parser.")


class UpstreamTable(Table):
    """A server that gpuserve routes to but does not run."""

    name: Name = Field(description="What `gpuserve status` calls it.")
    url: Annotated[Text, AfterValidator(_url)] = Field(
        description="Base URL, without /v1.", examples=["http://127.0.0.1:8088"]
    )
    models: Annotated[list[PublicName], Field(min_length=1)] = Field(
        description='Values of "model" that it serves.'
    )
    gpus: Gpus | None = Field(None, description="GPUs on which it holds memory.")
    reserve: Size | None = Field(None, description="What it holds on each of these GPUs.")


class RoutingTable(Table):
    """Which model answers requests that name none."""

    auto: PublicName = Field("auto", description='The value of "model" that asks for routing.')
    code: PublicName | None = Field(None, description="Model for prompts about code.")
    general: PublicName | None = Field(None, description="Model for every other prompt.")
    default: PublicName | None = Field(
        None, description="Model for prompts that cannot be told; without it, `general`."
    )


class Document(Table):
    """A gpuserve profile."""

    server: ServerTable = ServerTable()
    engine: EngineTable = EngineTable()
    model: list[ModelTable] = Field([], description="The models, one vLLM engine each.")
    upstream: list[UpstreamTable] = Field(
        [], description="Servers that gpuserve routes to but does not run."
    )
    routing: RoutingTable = RoutingTable()
