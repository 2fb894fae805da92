"""What a request needs of a model, read from its path and body."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from gpuserve.routing.body import model_of
from gpuserve.routing.compiled import plain_body
from gpuserve.routing.fim import is_fim
from gpuserve.routing.turns import Turns

Task = Literal["chat", "text", "pool", "count", "other"]

# Prefixes that vLLM serves (vllm/entrypoints, 0.32); what lies below, such as
# `/v1/chat/completions/render`, needs the same.
_TASKS: tuple[tuple[str, Task], ...] = (
    ("/v1/messages/count_tokens", "chat"),
    ("/v1/chat/completions", "chat"),
    ("/v1/responses", "chat"),
    ("/v1/messages", "chat"),
    ("/v1/completions", "text"),
    ("/v1/embeddings", "pool"),
    ("/v1/rerank", "pool"),
    ("/v1/score", "pool"),
    ("/v1/classify", "pool"),
    ("/v1/pooling", "pool"),
    ("/rerank", "pool"),
    ("/score", "pool"),
    ("/tokenize", "count"),
    ("/detokenize", "count"),
)
_TASK_OF_PATH = dict(_TASKS)
# What most bodies have and no others: nothing here asks for tools, a schema or an infill.
_ORDINARY = """
    model messages input prompt stream stream_options max_tokens max_completion_tokens
    max_output_tokens temperature top_p n stop seed user presence_penalty frequency_penalty
"""
_ORDINARY_KEYS = frozenset(_ORDINARY.split())
_IMAGES = frozenset({"image_url", "input_image", "image"})
# The first of them counts (vllm/entrypoints/openai/chat_completion/protocol.py).
LIMITS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
# English text and code run to 3 to 5 bytes per token with today's vocabularies (vLLM counts
# exactly and answers 400 itself); a token longer than 16 bytes on average does not occur outside
# runs of spaces.
_USUAL_BYTES_PER_TOKEN = 4
_MOST_BYTES_PER_TOKEN = 16
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def _no_headers() -> Mapping[str, str]:
    return NO_HEADERS


@dataclass(slots=True, kw_only=True)  # frozen, it would take three times as long to make
class Need:
    """What a request asks of a model; nobody changes one.

    `model` is None when it names none. `tokens` is the usual size of the prompt plus what it
    wants generated, `least_tokens` what it cannot fall below; both 0 when that cannot be told.
    `size_bytes` is what these are estimated from, 0 likewise; `wanted_tokens` is what is to be
    generated, 0 when the request does not say. `structured`: the answer must follow a schema or
    grammar; `fim`: it stands between two pieces of code. `headers` are the request's, looked up
    by names in lower case. `body` is the parsed body, read by rules and classification only;
    `turns` are those in it where they are known without it, and it is empty then.

    `counted_tokens` is what an engine's tokenizer said about the prompt, None where none was
    asked, -1 where none answered; `counted_by` is the upstream that was asked.
    """

    task: Task
    model: str | None = None
    tools: bool = False
    images: bool = False
    structured: bool = False
    fim: bool = False
    stream: bool = False
    tokens: int = 0
    least_tokens: int = 0
    size_bytes: int = 0
    wanted_tokens: int = 0
    counted_tokens: int | None = None
    counted_by: str | None = None
    headers: Mapping[str, str] = field(default_factory=_no_headers)
    body: dict[str, Any] = field(default_factory=dict)
    turns: Turns | None = None

    @property
    def prompt_tokens(self) -> int:
        """The tokens of the prompt: as counted, else as usual for its bytes; 0: unknown."""
        if self.counted_tokens is not None and self.counted_tokens >= 0:
            return self.counted_tokens
        return self.size_bytes // _USUAL_BYTES_PER_TOKEN


def task_of(path: str) -> Task:
    """Return the task that *path* stands for, "other" for what is passed on unread."""
    known = _TASK_OF_PATH.get(path)
    if known is not None:
        return known
    if path.startswith("/v1/responses/"):
        return "other"  # one that was made before, by its id
    for prefix, task in _TASKS:
        if path.startswith(f"{prefix}/"):
            return task
    return "other"


def need_of(
    path: str, body: dict[str, Any], size_bytes: int, headers: Mapping[str, str] = NO_HEADERS
) -> Need:
    """Return the need of a request to *path* with a JSON *body* of *size_bytes*.

    *headers* have names in lower case, or are looked up whatever the case. Raises BadBody when
    the body's `model` is not a string.
    """
    task = task_of(path)
    model = model_of(body)
    images = task == "chat" and _has_image(body)
    # The bytes of an image say nothing about its tokens.
    size = 0 if images or task not in ("chat", "text") else size_bytes
    wanted = _wanted_tokens(body)
    ordinary = body.keys() <= _ORDINARY_KEYS
    return Need(
        task=task,
        model=model,
        tools=not ordinary and bool(body.get("tools")) and body.get("tool_choice") != "none",
        images=images,
        structured=not ordinary and _is_structured(body),
        fim=task == "text" and is_fim(body),
        stream=body.get("stream") is True,
        tokens=size // _USUAL_BYTES_PER_TOKEN + wanted if size else 0,
        least_tokens=size // _MOST_BYTES_PER_TOKEN,
        size_bytes=size,
        wanted_tokens=wanted,
        headers=headers,
        body=body,
    )


def plain_need(path: str, raw: bytes) -> Need | None:
    """Return the need of a plain chat request, without its body; None where more is asked.

    What `need_of` says of the same body, read by the compiled part in a fifth of the time. The
    middle of a turn beyond 32 KiB is left out: no verdict looks at it.
    """
    if path != "/v1/chat/completions":
        return None
    found = plain_body(raw)
    if found is None:
        return None
    model, stream, wanted, size, last, earlier, reply, system = found
    return Need(
        task="chat",
        model=model,
        stream=stream,
        tokens=size // _USUAL_BYTES_PER_TOKEN + wanted,
        least_tokens=size // _MOST_BYTES_PER_TOKEN,
        size_bytes=size,
        wanted_tokens=wanted,
        headers=NO_HEADERS,
        turns=Turns(last=last, earlier=earlier, reply=reply, system=system),
    )


def text_bytes(raw: bytes) -> int:
    r"""Return the bytes of *raw* as text: `\u4e2d` is one character of three."""
    # To look for one character costs a fiftieth of looking for two.
    escaped = raw.find(b"\\")
    return len(raw) if escaped < 0 else len(raw) - 3 * raw.count(b"\\u", escaped)


def _wanted_tokens(body: dict[str, Any]) -> int:
    for key in LIMITS:
        value = body.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0


def _is_structured(body: dict[str, Any]) -> bool:
    """Whether the answer must follow a schema, as OpenAI and vLLM name it."""
    if body.get("structured_outputs") or body.get("guided_json"):
        return True
    wanted = body.get("response_format")
    if wanted is None and isinstance(text := body.get("text"), dict):  # Responses
        wanted = text.get("format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    return isinstance(kind, str) and kind != "text"


def _has_image(body: dict[str, Any]) -> bool:
    for key in ("messages", "input"):
        messages = body.get(key)
        if not isinstance(messages, list):
            continue
        for message in messages:
            content = message.get("content") if isinstance(message, dict) else None
            if isinstance(content, list) and any(_is_image(part) for part in content):
                return True
    return False


def _is_image(part: object) -> bool:
    kind = part.get("type") if isinstance(part, dict) else None
    return isinstance(kind, str) and kind in _IMAGES
