"""Recorded on one H100 with vLLM 0.26.0: a start, an end, and starts that were refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from gpuserve.controller.status import actual
from gpuserve.lifecycle.drift import gained_by_compiling, missing_cache_bytes
from gpuserve.lifecycle.endings import Ending, classify
from gpuserve.lifecycle.logline import ErrorLine, allocation_of, better_error, phase_of
from gpuserve.memory.report import Footprint
from gpuserve.units import GIB

LOGS = Path(__file__).parents[2] / "data" / "h100"


# Mistral-7B in 16 GiB.
PLANNED = Footprint(
    weights_bytes=round(13.5 * GIB),
    activation_bytes=GIB // 2,
    cuda_graph_bytes=0,
    non_torch_bytes=GIB // 4,
    kv_cache_bytes=3 * GIB // 2,
    context_bytes=GIB // 2,
    kv_cache_tokens=12_288,
    max_concurrency=0.375,
    kv_bytes_per_token=131_072,
    estimated=False,
    margin_bytes=GIB // 2,
)


def lines(name: str) -> list[str]:
    return (LOGS / name).read_text(encoding="utf-8").splitlines()


def last_error(name: str) -> str:
    best: ErrorLine | None = None
    for line in lines(name):
        best = better_error(best, line)
    assert best is not None
    return best.text


def allocated(name: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in lines(name):
        found |= allocation_of(line)
    return found


def test_every_phase_of_a_start_is_told_in_its_order() -> None:
    phases: list[str] = []
    for line in lines("start.log"):
        phase = phase_of(line)
        if phase is not None and phase not in phases[-1:]:
            phases.append(phase)
    assert phases == [
        "reading configuration",
        "starting the engine",
        "loading weights",
        "weights are loaded",
        "compiling",
        "measuring memory",
        "making the KV cache",
        "capturing CUDA graphs",
        "compiling kernels",
        "starting the server",
    ]


def test_every_term_that_vllm_measured_is_read() -> None:
    assert actual(allocated("start.log"), {}) == {
        "weights_bytes": round(14.29 * GIB),
        "activation_bytes": round(1.04 * GIB),
        "non_torch_bytes": round(0.22 * GIB),
        "kv_cache_bytes": round(2.65 * GIB),
        "cuda_graph_bytes": round(0.37 * GIB),
        "kv_cache_tokens": 49_680,
        "max_concurrency": 12.13,
    }


def test_terms_that_newer_releases_print_together_are_taken_apart() -> None:
    # The wording of 0.32 (v1/worker/gpu_worker.py), the figures of the start above.
    found = allocation_of("Model loading took 14.29 GiB memory and 1.159913 seconds")
    found |= allocation_of("Estimated CUDA graph memory: 0.37 GiB total")
    found |= allocation_of(
        "Free memory on device (19.35/79.18 GiB) on startup. Desired GPU memory utilization is "
        "(0.23, 18.21 GiB). Actual usage is 14.51 GiB for consumed memory (weights + non-torch), "
        "1.41 GiB for peak activation, and 0.37 GiB for CUDAGraph memory. Replace"
    )
    terms = actual(found, {})
    assert terms["activation_bytes"] == pytest.approx(1.04 * GIB, abs=1)
    assert terms["non_torch_bytes"] == pytest.approx(0.22 * GIB, abs=1)


@pytest.mark.parametrize(
    ("log", "cause", "course"),
    [
        ("out_of_memory.log", "out_of_gpu_memory", "hopeless"),
        ("not_free.log", "memory_taken", "excused"),
        ("charged_for_others.log", "kv_cache_too_small", "hopeless"),
    ],
)
def test_a_refusal_has_its_cause(log: str, cause: str, course: str) -> None:
    found = classify(Ending(starting=True, exit_code=1, error=last_error(log)))
    assert (found.cause, found.course) == (cause, course)


def test_a_cache_far_below_the_plan_is_tried_again_and_counted() -> None:
    # Another engine was started beside it, and charged to it: -12.77 GiB. Planned were 1.5.
    missing = missing_cache_bytes(PLANNED, allocated("charged_for_others.log"))
    assert missing == pytest.approx(13.77 * GIB, abs=1)
    error = last_error("charged_for_others.log")
    found = classify(Ending(starting=True, exit_code=1, error=error, missing_cache_bytes=missing))
    assert (found.cause, found.course) == ("kv_cache_too_small", "counted")
    assert "13.77 GiB less" in found.text
    # A cache that is as small as planned, or a plan that is a guess, says nothing about others.
    assert missing_cache_bytes(PLANNED, {"kv_cache_gib": 1.1}) == 0
    assert missing_cache_bytes(replace(PLANNED, estimated=True), {"kv_cache_gib": -12.77}) == 0
    assert missing_cache_bytes(PLANNED, {}) == 0
    assert missing_cache_bytes(None, {"kv_cache_gib": -12.77}) == 0


def test_a_first_start_that_compiled_is_tried_once_more() -> None:
    planned = replace(PLANNED, first_start_bytes=2 * GIB // 3)
    gained = gained_by_compiling(planned, {"kv_cache_gib": 0.9})
    assert gained == 2 * GIB // 3
    error = (
        "ValueError: To serve at least one request with the models's max seq len (8192), (1.0 GiB "
        "KV cache is needed, which is larger than the available KV cache memory (0.9 GiB)."
    )
    ending = Ending(starting=True, exit_code=1, error=error, gained_bytes=gained)
    found = classify(ending)
    assert (found.cause, found.course) == ("kv_cache_too_small", "counted")
    assert "0.67 GiB more" in found.text
    assert classify(replace(ending, gained_bytes=0)).course == "hopeless"
    # A cache as large as planned gains nothing, nor does a plan without a compiler.
    assert gained_by_compiling(planned, {"kv_cache_gib": 1.5}) == 0
    assert gained_by_compiling(PLANNED, {"kv_cache_gib": 0.9}) == 0
    assert gained_by_compiling(planned, {}) == 0


def test_what_was_tried_and_what_was_free_are_figures() -> None:
    error = last_error("out_of_memory.log")
    found = classify(Ending(starting=True, exit_code=1, error=error))
    assert found.figures["tried_bytes"] == round(93.13 * GIB)
    assert found.figures["free_bytes"] == round(47.54 * GIB)
    error = last_error("not_free.log")
    found = classify(Ending(starting=True, exit_code=1, error=error))
    assert found.figures["free_bytes"] == round(78.52 * GIB)
    assert found.figures["wanted_bytes"] == round(79.17 * GIB)


def test_a_server_whose_core_was_killed_ends_with_0_and_is_tried_again() -> None:
    error = last_error("core_killed.log")
    found = classify(Ending(starting=False, exit_code=0, error=error))
    assert (found.cause, found.course) == ("engine_core_died", "counted")
    assert "without being asked" in found.text
