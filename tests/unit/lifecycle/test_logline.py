"""What real vLLM log lines say. The lines are vLLM's own, shortened."""

import pytest

from gpuserve.lifecycle.logline import (
    ErrorLine,
    allocation_of,
    better_error,
    phase_of,
    text_of,
)

CORE = "(EngineCore pid=812) ERROR 11-21 08:00:00 [core.py:1100] "


def last_error(*lines: str) -> str | None:
    best: ErrorLine | None = None
    for line in lines:
        best = better_error(best, line)
    return best.text if best else None


@pytest.mark.parametrize(
    ("line", "phase"),
    [
        (
            "INFO 11-21 08:00:00 [runner.py:1] Starting to load model /m...",
            "loading weights",
        ),
        (
            "Loading safetensors checkpoint shards:  43% Completed | 3/7 [00:02<00:03]",
            "loading weights, shard 3 of 7",
        ),
        (
            "(EngineCore pid=1) INFO 11-21 08:00:00 [x.py:1] Loading weights took 3.2 seconds",
            "weights are loaded",
        ),
        ("INFO [backends.py:1] Dynamo bytecode transform time: 3.5 s", "compiling"),
        ("Capturing CUDA graphs (decode, FULL):  10%|", "capturing CUDA graphs"),
        ("INFO: Application startup complete.", "starting the server"),
        ("INFO something else entirely", None),
    ],
)
def test_a_phase_begins_with_its_line(line: str, phase: str | None) -> None:
    assert phase_of(line) == phase


def test_the_prefix_of_any_process_is_no_part_of_the_text() -> None:
    assert text_of(CORE + "ValueError: no") == "ValueError: no"
    assert text_of("\x1b[0;36m(Worker_TP0 pid=2)\x1b[0;0m ERROR 11-21 08:00:00 [a.py:1] x") == "x"
    assert text_of("plain text") == "plain text"


def test_allocation_is_read_from_the_lines_of_several_releases() -> None:
    assert allocation_of("Model loading took 14.9889 GiB and 3.4 seconds") == {
        "weights_gib": 14.9889
    }
    assert allocation_of("Model loading took 16.8 GiB memory and 2.41 seconds") == {
        "weights_gib": 16.8
    }
    one = (
        "GPU KV cache size: 119,005 tokens, "
        "Maximum concurrency for 16,384 tokens per request: 7.26x"
    )
    assert allocation_of(one) == {"kv_cache_tokens": 119005, "max_concurrency": 7.26}
    assert allocation_of("Available KV cache memory: 28.15 GiB") == {"kv_cache_gib": 28.15}


def test_the_exception_that_came_first_beats_the_wrapper_around_it() -> None:
    assert (
        last_error(
            CORE + "EngineCore failed to start.",
            CORE + "Traceback (most recent call last):",
            CORE + '  File "core.py", line 1, in run',
            CORE + "ValueError: Free memory on device cuda:0 (10.4/79.18 GiB) on startup is less",
            "RuntimeError: Engine core initialization failed. See root cause above.",
        )
        == "ValueError: Free memory on device cuda:0 (10.4/79.18 GiB) on startup is less"
    )


def test_a_bad_flag_is_told_in_the_parsers_words() -> None:
    line = "vllm: error: unrecognized arguments: --swap-space 4"
    assert last_error("usage: vllm [-h]", line) == line


def test_an_exception_of_a_package_counts() -> None:
    line = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert last_error(CORE + line) == line


def test_an_error_line_is_better_than_nothing_and_worse_than_an_exception() -> None:
    assert last_error(CORE + "the driver says no") == "the driver says no"
    assert last_error("KeyError: 'x'", CORE + "later, something general") == "KeyError: 'x'"


@pytest.mark.parametrize(
    "line",
    [
        "ERROR: the driver is gone",
        "ERROR torch.OutOfMemoryError: CUDA out of memory",
        "error: no such device",
        "fatal: not a repository",
        "CRITICAL out of luck",
        "Segmentation fault (core dumped)",
        "./vllm: line 3: foo: command not found",
    ],
)
def test_the_words_of_other_programs_count_too(line: str) -> None:
    assert last_error("starting up", line, "bye") == line


def test_ordinary_lines_count_for_least() -> None:
    assert last_error("INFO 11-21 08:00:00 [a.py:1] 0 errors so far", "hello") == "hello"
    assert last_error("hello", "error: no", "good bye") == "error: no"


def test_a_line_of_a_megabyte_is_cut() -> None:
    text = last_error("ValueError: " + "x" * 1_000_000)
    assert text is not None
    assert len(text) == 500


def test_what_pydantic_says_on_the_next_lines_belongs_to_its_error() -> None:
    found = last_error(
        "(APIServer pid=7) pydantic_core._pydantic_core.ValidationError: 1 validation error for "
        "ModelConfig",
        "(APIServer pid=7)   Value error, Invalid repository ID or local directory given: '/x'.",
        "(APIServer pid=7)     For further information visit https://errors.pydantic.dev/2.12/v/v",
    )
    assert str(found).endswith("ModelConfig: Value error, Invalid repository ID or local directory "
                          "given: '/x'.")  # fmt: skip
    field = last_error(
        "pydantic_core.ValidationError: 1 validation error for CacheConfig",
        "block_size",
        "  Input should be 1, 8 or 16 [type=literal_error]",
        "good bye",
    )
    assert str(field).endswith(
        "CacheConfig: block_size: Input should be 1, 8 or 16 [type=literal_error]"
    )
