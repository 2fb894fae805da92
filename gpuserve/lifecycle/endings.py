"""Why an engine ended and whether to try again: by its exit, its words and the kernel's.

The wordings are those of vLLM 0.6 to 0.33 (v1/worker/utils.py, v1/worker/gpu_worker.py,
v1/core/kv_cache_planning.py), torch, transformers and huggingface_hub; the first that is found in
the last real error counts.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gpuserve.units import GIB, gib

# argparse ends with 2 for an unknown flag; a shell or the kernel with 126 and 127 for a program
# that cannot be run.
_BAD_FLAG, _CANNOT_RUN = 2, (126, 127)
_SIGKILL = 9
# Less than that is what drivers and display servers come and go with, or memory on its way back.
_OTHERS_BYTES = GIB // 2

# counted: tried again, up to the limits. hopeless: the same command would end the same way.
# excused: somebody else's doing, tried again through the gate and not held against the engine.
Course = Literal["counted", "hopeless", "excused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What is known of one unasked end.

    `error` is the last real error in the engine's log. `oom_killer` says on whose account the
    kernel's OOM killer ended a process meanwhile, None if it did not. `driver_answers` is False
    where the GPUs cannot be read now. `taken_bytes` is how much less is free on its device now
    than when it was let in: what others have taken. `missing_cache_bytes` is how much less it found
    for its KV cache than was planned at the 95th percentile, `gained_bytes` how much more the next
    start may have because this one, the first, has compiled its kernels.
    """

    starting: bool
    exit_code: int | None = None
    exit_signal: int | None = None
    signal_name: str = ""
    error: str | None = None
    shim_killed: bool = False
    oom_killer: str | None = None
    driver_answers: bool = True
    taken_bytes: int = 0
    missing_cache_bytes: int = 0
    gained_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Why it ended: a word to count by, a sentence, the figures, and what is to be done."""

    cause: str
    text: str
    course: Course
    figures: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Wording:
    pattern: re.Pattern[str]
    cause: str
    starting: Course  # what it means of an engine that loads
    hint: str | None = None
    serving: Course = "counted"  # and of one that was ready


def _wording(pattern: str, cause: str, starting: Course, hint: str | None = None) -> _Wording:
    return _Wording(re.compile(pattern), cause, starting, hint)


_WORDINGS = (
    _wording(r"Error in memory profiling", "neighbour", "excused"),
    _wording(
        r"Free memory on device .* on startup is less than desired", "memory_taken", "excused"
    ),
    _wording(
        r"No available memory for the cache blocks|KV cache is needed, which is larger than|"
        r"larger than the maximum number of tokens that can be stored in KV cache",
        "kv_cache_too_small",
        "hopeless",
        "give the model more memory, or a smaller max_model_len",
    ),
    _wording(
        r"OutOfMemoryError|CUDA out of memory|CUDA error: out of memory|HIP out of memory|"
        r"cudaErrorMemoryAllocation",
        "out_of_gpu_memory",
        "hopeless",
        "give the model more memory, or less to hold: max_model_len, max_num_batched_tokens",
    ),
    _wording(
        r"GatedRepoError|Cannot access gated repo|is restricted|401 Client Error|403 Client Error",
        "gated_model",
        "hopeless",
        "accept the model's terms on its page and give gpuserve a token (HF_TOKEN_PATH)",
    ),
    _wording(
        r"is not a valid model identifier|Invalid repository ID or local directory|"
        r"Repo id must be in the form|RepositoryNotFoundError|RevisionNotFoundError|"
        r"HFValidationError|does not appear to have a file named|Cannot find any model weights|"
        r"Cannot find model weights|404 Client Error|No such file or directory: .*config\.json",
        "missing_model",
        "hopeless",
        "see `model` and `revision` in the profile",
    ),
    _wording(
        r"Model architectures? .* (?:are|is) not supported|has no vLLM implementation",
        "unsupported_model",
        "hopeless",
        "this vLLM does not know the model: another version may",
    ),
    _wording(
        r"validation errors? for \w*Config|unrecognized arguments|"
        r"invalid choice: |argument --[\w-]+: ",
        "bad_setting",
        "hopeless",
        "see the model's settings and extra_args in the profile",
    ),
    _wording(r"Address already in use|EADDRINUSE|Errno 98\b", "port_taken", "counted"),
    _wording(
        r"Driver/library version mismatch|driver version is insufficient|GPU is lost|"
        r"No CUDA GPUs are available|no CUDA-capable device|NVMLError|"
        r"[Uu]ncorrectable ECC|fallen off the bus|CUDA driver initialization failed|"
        r"Failed to infer device type|CUDA error: unknown error|system not yet initialized",
        "driver_lost",
        "counted",
        "`nvidia-smi` says whether the driver answers; a new driver needs a reboot",
    ),
    _wording(
        r"^MemoryError|Cannot allocate memory|can't allocate memory|Errno 12\b",
        "out_of_host_memory",
        "counted",
    ),
    _wording(r"No space left on device|Errno 28\b|Disk quota exceeded", "disk_full", "counted"),
    _wording(
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|couldn't connect to|ConnectionError|"
        r"Max retries exceeded|Temporary failure in name resolution",
        "hub_unreachable",
        "counted",
    ),
)
_NEEDED = re.compile(r"\(([0-9.]+) GiB KV cache is needed.*?KV cache memory \(([0-9.]+) GiB\)")
_LONGEST = re.compile(r"estimated maximum model length is ([0-9,]+)")
_TRIED = re.compile(r"Tried to allocate ([0-9.]+) (MiB|GiB)")
_LEFT = re.compile(r"of which ([0-9.]+) (MiB|GiB) is free")
_WANTED = re.compile(r"\(([0-9.]+)/([0-9.]+) GiB\).*?\([0-9.]+, ([0-9.]+) GiB\)")


def classify(ending: Ending) -> Finding:
    """Return why the engine ended and whether the same would happen again."""
    found = _by_evidence(ending)
    how = _how(ending)
    if found is not None:
        cause, course, told = found
        return Finding(cause=cause, text=told or how, course=course, figures=_exit(ending))
    wording = next((w for w in _WORDINGS if w.pattern.search(ending.error or "")), None)
    if wording is None:
        return Finding(cause=_plain(ending), text=how, course="counted", figures=_exit(ending))
    course = wording.starting if ending.starting else wording.serving
    text = f"{how} ({wording.hint})" if wording.hint and course != "excused" else how
    memory = wording.cause in ("kv_cache_too_small", "out_of_gpu_memory")
    if memory and course == "hopeless" and ending.taken_bytes >= _OTHERS_BYTES:
        course = "excused"
        text = f"{how}; others have taken {gib(ending.taken_bytes)} there since it was let in"
    elif memory and course == "hopeless" and ending.missing_cache_bytes >= _OTHERS_BYTES:
        # vLLM charges itself with what anybody takes of the GPU while it measures. They may be gone
        # by now; as the plan may be wrong as well, this counts against the limits.
        course = "counted"
        text = (
            f"{how}; it found {gib(ending.missing_cache_bytes)} less for its cache than planned, "
            "as where others load something while it measures"
        )
    elif wording.cause == "kv_cache_too_small" and course == "hopeless" and ending.gained_bytes:
        course = "counted"
        text = (
            f"{how}; its kernels are compiled now, so that the next start may have "
            f"{gib(ending.gained_bytes)} more"
        )
    if wording.cause == "driver_lost" and not ending.driver_answers:
        course = "excused"
    figures = {**_exit(ending), **_figures(ending.error or "")}
    if memory and ending.taken_bytes:
        figures["taken_by_others_bytes"] = ending.taken_bytes
    if memory and ending.missing_cache_bytes:
        figures["missing_cache_bytes"] = ending.missing_cache_bytes
    return Finding(cause=wording.cause, text=text, course=course, figures=figures)


def _by_evidence(ending: Ending) -> tuple[str, Course, str | None] | None:
    """What the exit and the kernel say, where that weighs more than the engine's words."""
    if ending.exit_code == _BAD_FLAG and ending.starting:
        return "bad_flag", "hopeless", None
    if ending.exit_code in _CANNOT_RUN and ending.starting:
        return "cannot_execute", "hopeless", None
    # A worker that was killed ends its server with 0, or with words about a worker that died.
    silent = ending.exit_signal == _SIGKILL or ending.exit_code == 0 or _worker_died(ending)
    if ending.oom_killer is not None and (silent or ending.shim_killed):
        told = f"killed by the kernel's OOM killer: {ending.oom_killer}"
        return "oom_killer", "counted", told
    return None


def _worker_died(ending: Ending) -> bool:
    return bool(re.search(r"[Ww]orker .*died|EngineDeadError|signal 9|SIGKILL", ending.error or ""))


def _plain(ending: Ending) -> str:
    if ending.shim_killed:
        return "shim_killed"
    if ending.exit_signal is not None:
        return "killed" if ending.exit_signal == _SIGKILL else "crashed"
    return "engine_core_died" if ending.exit_code == 0 else "exit"


def _how(ending: Ending) -> str:
    if ending.shim_killed:
        return "its shim was killed"
    if ending.exit_signal is not None:
        how = f"killed by {ending.signal_name or f'signal {ending.exit_signal}'}"
    else:
        how = f"exited with status {ending.exit_code}"
    if ending.exit_code == 0:
        # vLLM's server ends with 0 when its engine core has died: no sign of a clean end.
        how += " without being asked"
    return f"{how}: {ending.error}" if ending.error else how


def _exit(ending: Ending) -> dict[str, float | int | str]:
    if ending.exit_signal is not None:
        return {"signal": ending.signal_name or ending.exit_signal}
    return {} if ending.exit_code is None else {"status": ending.exit_code}


def _figures(error: str) -> dict[str, float | int | str]:
    """Return what vLLM and torch measured, in bytes and tokens."""
    found: dict[str, float | int | str] = {}
    if match := _NEEDED.search(error):
        found["needed_bytes"] = round(float(match[1]) * GIB)
        found["available_bytes"] = round(float(match[2]) * GIB)
    if match := _LONGEST.search(error):
        found["longest_tokens"] = int(match[1].replace(",", ""))
    if match := _TRIED.search(error):
        found["tried_bytes"] = _bytes(match)
    if match := _LEFT.search(error):
        found["free_bytes"] = _bytes(match)
    if match := _WANTED.search(error):
        found["free_bytes"] = round(float(match[1]) * GIB)
        found["wanted_bytes"] = round(float(match[3]) * GIB)
    return found


def _bytes(match: re.Match[str]) -> int:
    return round(float(match[1]) * (GIB if match[2] == "GiB" else 1 << 20))
