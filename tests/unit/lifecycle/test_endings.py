"""Why an engine ended, by the words that vLLM, torch, transformers and the hub really use."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuserve.lifecycle.backoff import within_the_hour
from gpuserve.lifecycle.endings import Ending, classify
from gpuserve.lifecycle.logline import better_error
from gpuserve.units import GIB

KV_TOO_SMALL = (
    "(EngineCore pid=71) ERROR 11-21 08:00:00 [core.py:1] ValueError: To serve at least one "
    "request with the models's max seq len (32768), (4.00 GiB KV cache is needed, which is larger "
    "than the available KV cache memory (1.50 GiB). Based on the available memory, the estimated "
    "maximum model length is 12,288. Try increasing `gpu_memory_utilization`"
)
OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 896.00 MiB. GPU 0 has a total "
    "capacity of 79.18 GiB of which 612.00 MiB is free. Process 1 has 78.5 GiB memory in use."
)
NO_ROOM = (
    "ValueError: Free memory on device cuda:0 (30.10/79.18 GiB) on startup is less than desired "
    "GPU memory utilization (0.5, 39.59 GiB). Decrease GPU memory utilization or reduce GPU memory"
)
WORDS = [
    # what vLLM says, while it starts: the cause, and what is done
    (KV_TOO_SMALL, "kv_cache_too_small", "hopeless"),
    (
        (
            "ValueError: The model's max seq len (16384) is larger than the maximum number of "
            "tokens that can be stored in KV cache (8016). Try increasing `gpu_memory_utilization`"
        ),
        "kv_cache_too_small",
        "hopeless",
    ),
    (
        (
            "ValueError: No available memory for the cache blocks. Try increasing "
            "`gpu_memory_utilization` when initializing the engine."
        ),
        "kv_cache_too_small",
        "hopeless",
    ),
    (OOM, "out_of_gpu_memory", "hopeless"),
    ("RuntimeError: CUDA error: out of memory", "out_of_gpu_memory", "hopeless"),
    (NO_ROOM, "memory_taken", "excused"),
    (
        (
            "AssertionError: Error in memory profiling. Initial free memory 70.1 GiB, current free "
            "memory 71.3 GiB. This happens when other processes sharing the same container"
        ),
        "neighbour",
        "excused",
    ),
    (
        (
            "OSError: org/model is not a local folder and is not a valid model identifier listed "
            "on 'https://huggingface.co/models'"
        ),
        "missing_model",
        "hopeless",
    ),
    (
        "huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error. (Request ID: Root=1-6)",
        "missing_model",
        "hopeless",
    ),
    (
        (
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig: "
            "Value error, Invalid repository ID or local directory specified: '/nowhere'."
        ),
        "missing_model",
        "hopeless",
    ),
    (
        (
            "OSError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': "
            "'/nonexistent/dir'. Use `repo_type` argument if needed."
        ),
        "missing_model",
        "hopeless",
    ),
    (
        "RuntimeError: Cannot find any model weights with `/srv/models/empty`",
        "missing_model",
        "hopeless",
    ),
    (
        "huggingface_hub.errors.GatedRepoError: 403 Client Error. (Request ID: Root=1-6)",
        "gated_model",
        "hopeless",
    ),
    (
        "ValueError: Model architectures ['FooForCausalLM'] are not supported for now. Supported",
        "unsupported_model",
        "hopeless",
    ),
    (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
        "bad_setting",
        "hopeless",
    ),
    ("OSError: [Errno 98] Address already in use", "port_taken", "counted"),
    (
        "RuntimeError: Unexpected error from cudaGetDeviceCount(): CUDA error: unknown error",
        "driver_lost",
        "counted",
    ),
    ("RuntimeError: No CUDA GPUs are available", "driver_lost", "counted"),
    (
        "pynvml.NVMLError_LibRmVersionMismatch: Driver/library version mismatch",
        "driver_lost",
        "counted",
    ),
    (
        (
            "RuntimeError: [enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 8589934592 bytes. Error code 12 (Cannot allocate memory)"
        ),
        "out_of_host_memory",
        "counted",
    ),
    ("OSError: [Errno 28] No space left on device", "disk_full", "counted"),
    (
        "huggingface_hub.errors.LocalEntryNotFoundError: An error happened while trying to locate",
        "hub_unreachable",
        "counted",
    ),
    ("KeyError: 'layers.3.mlp'", "exit", "counted"),
]


@pytest.mark.parametrize(("line", "cause", "course"), WORDS, ids=lambda value: str(value)[:40])
def test_a_start_that_fails_is_known_by_its_words(line: str, cause: str, course: str) -> None:
    best = better_error(None, line)
    assert best is not None
    found = classify(Ending(starting=True, exit_code=1, error=best.text))
    assert (found.cause, found.course) == (cause, course)
    assert best.text[:60] in found.text, "vLLM's own words are told"


@pytest.mark.parametrize(("line", "cause"), [(line, cause) for line, cause, _ in WORDS])
def test_an_engine_that_was_ready_is_always_tried_again(line: str, cause: str) -> None:
    found = classify(Ending(starting=False, exit_code=1, error=line))
    assert (found.cause, found.course) == (cause, "counted")


@pytest.mark.parametrize(
    ("ending", "cause", "course", "words"),
    [
        (Ending(starting=True, exit_code=2, error="vllm: error: x"), "bad_flag", "hopeless", "x"),
        (Ending(starting=True, exit_code=127), "cannot_execute", "hopeless", "status 127"),
        (Ending(starting=False, exit_code=2), "exit", "counted", "status 2"),
        (Ending(starting=False, exit_code=0), "engine_core_died", "counted", "without being asked"),
        (
            Ending(starting=False, exit_signal=9, signal_name="SIGKILL"),
            "killed",
            "counted",
            "SIGKILL",
        ),
        (Ending(starting=False, exit_signal=63), "crashed", "counted", "signal 63"),
        (
            Ending(starting=False, exit_signal=11, signal_name="SIGSEGV"),
            "crashed",
            "counted",
            "SIGSEGV",
        ),
        (Ending(starting=True, shim_killed=True), "shim_killed", "counted", "shim was killed"),
    ],
)
def test_an_exit_without_words_is_told_by_its_status(
    ending: Ending, cause: str, course: str, words: str
) -> None:
    found = classify(ending)
    assert (found.cause, found.course) == (cause, course)
    assert words in found.text


LIMIT = "the memory limit of cgroup /system.slice/gpuserve.service, 64.00 GiB"


@pytest.mark.parametrize(
    "ending",
    [
        Ending(starting=False, exit_signal=9, signal_name="SIGKILL"),
        Ending(starting=False, exit_code=0),  # its worker was taken, and the server ended
        Ending(starting=False, exit_code=1, error="RuntimeError: Worker proc died unexpectedly"),
        Ending(starting=True, shim_killed=True),
    ],
)
def test_the_kernels_oom_killer_is_named_with_whose_limit(ending: Ending) -> None:
    found = classify(replace(ending, oom_killer=LIMIT))
    assert (found.cause, found.course) == ("oom_killer", "counted")
    assert "64.00 GiB" in found.text


def test_an_error_of_its_own_is_no_work_of_the_oom_killer() -> None:
    ending = Ending(starting=True, exit_code=1, error=OOM, oom_killer=LIMIT)
    assert classify(ending).cause == "out_of_gpu_memory"


def test_memory_that_others_took_meanwhile_excuses_the_engine() -> None:
    ending = Ending(starting=True, exit_code=1, error=OOM, taken_bytes=5 * GIB)
    found = classify(ending)
    assert (found.cause, found.course) == ("out_of_gpu_memory", "excused")
    assert "5.00 GiB" in found.text
    assert classify(replace(ending, taken_bytes=GIB // 4)).course == "hopeless"


def test_a_driver_that_does_not_answer_excuses_the_engine() -> None:
    ending = Ending(starting=True, exit_code=1, error="RuntimeError: No CUDA GPUs are available")
    assert classify(replace(ending, driver_answers=False)).course == "excused"


def test_the_figures_of_vllm_and_torch_are_kept() -> None:
    kv = classify(Ending(starting=True, exit_code=1, error=KV_TOO_SMALL)).figures
    assert kv["needed_bytes"] == 4 * GIB
    assert kv["available_bytes"] == 3 * GIB // 2
    assert kv["longest_tokens"] == 12288
    oom = classify(Ending(starting=True, exit_code=1, error=OOM)).figures
    assert (oom["tried_bytes"], oom["free_bytes"]) == (896 << 20, 612 << 20)
    room = classify(Ending(starting=True, exit_code=1, error=NO_ROOM)).figures
    assert room["wanted_bytes"] == round(39.59 * GIB)


@given(st.text(max_size=200), st.booleans(), st.integers(0, 255), st.integers(0, 64))
def test_no_words_break_it(text: str, starting: bool, code: int, number: int) -> None:
    for ending in (
        Ending(starting=starting, exit_code=code, error=text),
        Ending(starting=starting, exit_signal=number, error=text),
    ):
        assert classify(ending).text


def test_ends_count_for_an_hour_and_a_clock_that_was_set_back_counts_nothing() -> None:
    assert within_the_hour((100.0, 3000.0, 5000.0), 4000.0) == (3000.0,)
    assert within_the_hour((400.0,), 4000.0) == (400.0,)
