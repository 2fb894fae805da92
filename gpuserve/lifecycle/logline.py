"""What an engine's log lines say: the phase of loading, what it allocated, what went wrong.

Standard library only, because the shim reads lines with it. Formats are those of vLLM's
V0 (0.6) to 0.33; a line that is not recognised says nothing.
"""

import re
from dataclasses import dataclass

# `(EngineCore pid=1) ERROR 11-21 08:00:00 [core.py:12] text`, colours, either part missing.
_PREFIX = re.compile(
    r"^(?:\x1b\[[0-9;]*m)*(?:\([^)]*\)\s*)?(?:\x1b\[[0-9;]*m)*\s*"
    r"(?:(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)\s+[0-9-]+ [0-9:.]+\s*(?:\[[^]]*\])?:?\s*)?"
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

_PHASES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), phase)
    for pattern, phase in (
        (r"vLLM API server version|^\s*[█▄▀ ]*version ", "reading configuration"),
        (r"Initializing an? (?:V1 )?LLM engine", "starting the engine"),
        (
            r"Starting to load model|Loading weights on|Loading model (?:weights|from scratch)",
            "loading weights",
        ),
        (r"Loading weights took|Model loading took", "weights are loaded"),
        (r"Dynamo bytecode transform|Compiling a graph|torch\.compile takes", "compiling"),
        # The next two before what they hold besides: "warmup", "memory".
        (r"init engine .* took", "starting the server"),
        (r"Actual usage is", "compiling kernels"),
        (
            r"[Mm]emory profiling|Profiling CUDA graph|Initial profiling|Available KV cache memory",
            "measuring memory",
        ),
        (r"KV cache size|# (?:GPU|CPU|cuda|CUDA) blocks", "making the KV cache"),
        (r"Capturing CUDA graph|Graph capturing|Capturing cudagraphs", "capturing CUDA graphs"),
        (r"[Ww]arming up", "warming up"),
        (r"Starting vLLM (?:API )?server|Application startup complete", "starting the server"),
    )
)
_SHARDS = re.compile(r"Loading [\w ]*shards:\s+(\d+)% .*?(\d+)/(\d+)")

_WEIGHTS = re.compile(r"Model loading took ([0-9.]+) Gi?B")
_KV_AVAILABLE = re.compile(r"Available KV cache memory: (-?[0-9.]+) GiB")
_KV_TOKENS = re.compile(r"KV cache size: ([0-9,]+) tokens")
_CONCURRENCY = re.compile(r"Maximum concurrency for [0-9,]+ tokens per request: ([0-9.]+)x")
_GRAPHS = re.compile(r"Graph capturing finished in .* took (-?[0-9.]+) GiB")
# One line (v1/worker/gpu_worker.py, compile_or_warm_up_model). In 0.26 it has weights and non-torch
# apart, in 0.32 together, and the estimate for graphs in the activation peak.
_ESTIMATED_GRAPHS = re.compile(r"Estimated CUDA graph memory: ([0-9.]+) GiB")
_CONSUMED = re.compile(r"Actual usage is (-?[0-9.]+) GiB for consumed memory")
_WITH_GRAPHS = re.compile(r"for consumed memory .*?, ([0-9.]+) GiB for peak activation")
_ACTIVATION = re.compile(r"GiB for weight, ([0-9.]+) GiB for peak activation")
# Below 0 where somebody else's memory came free during the measurement.
_NON_TORCH = re.compile(r"(-?[0-9.]+) GiB for non-torch memory")

# What names itself an error: an exception with its message, or a program's own `error:`.
_EXCEPTION = re.compile(
    r"^(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Exit)\b(?::\s*\S.*)?$"
)
_PROGRAM_ERROR = re.compile(r"^(?:[\w./-]+: )+error: \S", re.IGNORECASE)
# Any other program's: a level word at the beginning.
_LEVEL_WORD = re.compile(r"^(?:ERROR|FATAL|CRITICAL|error|Error|fatal|Fatal)\b[:\]]?\s*\S")
_DEATH = re.compile(r"Segmentation fault|Illegal instruction|Bus error|command not found")
# Wrappers that vLLM raises when something else went wrong before.
_WRAPPER = re.compile(
    r"Engine core initialization failed|EngineCore failed to start|"
    r"EngineDeadError|EngineGenerateError|WorkerProc initialization failed|SystemExit|"
    r"KeyboardInterrupt|CancelledError|Engine process failed to start"
)
# pydantic says on the lines that follow what is wrong: the field, if it has one, then the words.
_TO_BE_CONTINUED = re.compile(r"validation errors? for \w+(?:: [\w.]+)?$")
MAX_ERROR_CHARS = 500
ORDINARY = 1  # the weight of a line that does not look like an error
# Longer lines are read up to here: no line of interest is longer, and patterns cost more than
# their length on hostile ones.
MAX_READ_CHARS = 600


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """The line that explains an engine's end best so far; a higher weight explains more."""

    text: str
    weight: int


def text_of(line: str) -> str:
    """Return *line* without process prefix, time stamp and colours."""
    match = _PREFIX.match(line)
    return _COLOUR.sub("", line[match.end() :] if match else line).rstrip()


def phase_of(line: str) -> str | None:
    """Return the phase of loading that *line* begins, or None."""
    shards = _SHARDS.search(line)
    if shards:
        return f"loading weights, shard {shards[2]} of {shards[3]}"
    text = text_of(line)
    for pattern, phase in _PHASES:
        if pattern.search(text):
            return phase
    return None


def allocation_of(line: str) -> dict[str, float]:
    """Return what *line* says that the engine allocated: GiB, tokens, concurrency."""
    found: dict[str, float] = {}
    for key, pattern in (
        ("weights_gib", _WEIGHTS),
        ("kv_cache_gib", _KV_AVAILABLE),
        ("kv_cache_tokens", _KV_TOKENS),
        ("max_concurrency", _CONCURRENCY),
        ("cuda_graph_gib", _GRAPHS),
        ("estimated_graph_gib", _ESTIMATED_GRAPHS),
        ("consumed_gib", _CONSUMED),
        ("activation_and_graph_gib", _WITH_GRAPHS),
        ("activation_gib", _ACTIVATION),
        ("non_torch_gib", _NON_TORCH),
    ):
        match = pattern.search(line)
        if match:
            found[key] = float(match[1].replace(",", ""))
    return found


def better_error(best: ErrorLine | None, line: str) -> ErrorLine | None:
    """Return the line that explains an end better: *best* so far, or *line*.

    A real exception outweighs vLLM's wrapper around it, which outweighs an ERROR line. Any
    other line counts for least: it is told only where nothing better was said. Among
    equals the later one wins, because a traceback ends with its exception.
    """
    weight = _weight(line)
    if best is not None and weight == ORDINARY and _TO_BE_CONTINUED.search(best.text):
        text = f"{best.text}: {text_of(line).strip()}"
        return ErrorLine(text[:MAX_ERROR_CHARS], best.weight)
    if weight == 0 or (best is not None and weight < best.weight):
        return best
    return ErrorLine(text_of(line).strip()[:MAX_ERROR_CHARS], weight)


def _weight(line: str) -> int:
    text = text_of(line).strip()
    if not text:
        return 0
    named = _EXCEPTION.match(text) or _PROGRAM_ERROR.match(text)
    if named and not _WRAPPER.search(text):
        return 4
    if named:
        return 3
    match = _PREFIX.match(line)
    if match and match["level"] in ("ERROR", "CRITICAL"):
        return 2
    return 2 if _LEVEL_WORD.match(text) or _DEATH.search(text) else ORDINARY
