"""The worked examples of the flagship documents: weights and cache exact, the rest near."""

import pytest

from gpuserve.memory.architecture import Architecture
from gpuserve.memory.kv import kv_shape
from gpuserve.memory.report import FitReport
from gpuserve.memory.weights import weights_bytes
from gpuserve.profile.spec import Demand
from gpuserve.units import GIB
from tests.unit.memory.models import (
    DEEPSEEK,
    MISTRAL,
    QWEN_7B,
    QWEN_14B,
    QWEN_32B,
    assessed,
    awq,
    card,
    footprint_of,
    gptq8,
    grant_of,
    machine,
    model,
    profile,
)

BATCHED = 8192
NEAR = 0.6


def pair(
    coder: Architecture,
    coder_demand: tuple[int, int],
    general: Architecture,
    other: tuple[int, int],
) -> FitReport:
    models = [
        model(
            name,
            demand=Demand(context_tokens=tokens, concurrency=count),
            max_num_batched_tokens=BATCHED,
        )
        for name, (tokens, count) in (("coder", coder_demand), ("general", other))
    ]
    return assessed(profile(*models), {"coder": coder, "general": general}, machine(card()))


def missing_gib(report: FitReport) -> float:
    (short,) = report.shortfalls
    return short.short_bytes / GIB


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        (awq(DEEPSEEK), 18_008_653_824),
        (awq(MISTRAL), 4_150_796_288),
    ],
)
def test_weights_of_the_flagship_are_exact_to_the_byte(arch: Architecture, expected: int) -> None:
    assert weights_bytes(arch) == expected


@pytest.mark.parametrize(
    ("arch", "expected_gib"),
    [
        (DEEPSEEK, 62.11),
        (MISTRAL, 13.49),
        (gptq8(DEEPSEEK), 32.20),
        (gptq8(MISTRAL), 7.14),
        (awq(QWEN_14B), 9.30),
        (awq(QWEN_32B), 18.00),
        (QWEN_7B, 14.19),
    ],
)
def test_weights_agree_to_two_decimals(arch: Architecture, expected_gib: float) -> None:
    assert weights_bytes(arch) / GIB == pytest.approx(expected_gib, abs=0.0075)


def test_two_ranks_hold_half_of_the_weights_and_of_the_cache() -> None:
    assert weights_bytes(QWEN_7B, tensor_parallel_size=2) / GIB == pytest.approx(7.09, abs=0.005)
    shape = kv_shape(QWEN_7B, tensor_parallel_size=2, max_num_batched_tokens=BATCHED)
    assert shape.bytes_per_token == 28_672


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        (DEEPSEEK, 253_952),
        (MISTRAL, 131_072),
        (QWEN_7B, 57_344),
        (QWEN_14B, 196_608),
        (QWEN_32B, 262_144),
    ],
)
def test_a_token_takes_what_the_architecture_says(arch: Architecture, expected: int) -> None:
    assert kv_shape(arch, max_num_batched_tokens=BATCHED).bytes_per_token == expected


def test_the_flagship_fits_with_its_figures() -> None:
    report = pair(awq(DEEPSEEK), (16384, 8), awq(MISTRAL), (16384, 8))
    assert report.verdict == "fits"
    coder, general = grant_of(report, "coder"), grant_of(report, "general")
    assert coder.budget_bytes / GIB == pytest.approx(49.42, abs=NEAR)
    assert general.budget_bytes / GIB == pytest.approx(21.07, abs=NEAR)
    assert report.gpus[0].left_bytes / GIB == pytest.approx(23.5, abs=2 * NEAR)
    # 8 x 16,384 tokens, and one block of 16 that vLLM keeps.
    assert footprint_of(report, "coder").kv_cache_tokens >= 8 * 16384 + 16
    assert footprint_of(report, "coder").kv_cache_bytes / GIB == pytest.approx(31.00, abs=0.03)
    assert footprint_of(report, "general").kv_cache_bytes / GIB == pytest.approx(16.00, abs=0.03)


def test_the_parts_of_the_estimate_are_the_worked_ones() -> None:
    report = pair(awq(DEEPSEEK), (16384, 8), awq(MISTRAL), (16384, 8))
    for name, parts in (("coder", (1.20, 0.25, 0.20)), ("general", (0.85, 0.20, 0.15))):
        footprint = footprint_of(report, name)
        found = (
            footprint.activation_bytes,
            footprint.cuda_graph_bytes,
            footprint.non_torch_bytes,
        )
        # Each near, and together nearer: logs have smaller graphs and a little more beside them.
        assert [size / GIB for size in found] == pytest.approx(parts, abs=0.2)
        assert sum(found) / GIB == pytest.approx(sum(parts), abs=0.15)


def test_the_flagship_fits_with_32k_for_the_general_model() -> None:
    report = pair(awq(DEEPSEEK), (16384, 8), awq(MISTRAL), (32768, 8))
    assert report.verdict == "fits"
    assert report.gpus[0].left_bytes / GIB == pytest.approx(7.5, abs=2 * NEAR)


def test_the_14b_general_model_fits_at_16k_and_not_at_32k() -> None:
    fitting = pair(awq(DEEPSEEK), (16384, 8), awq(QWEN_14B), (16384, 8))
    assert fitting.verdict == "fits"
    assert fitting.gpus[0].left_bytes / GIB == pytest.approx(9.9, abs=2 * NEAR)
    short = pair(awq(DEEPSEEK), (16384, 8), awq(QWEN_14B), (32768, 8))
    assert short.verdict == "does_not_fit"
    assert missing_gib(short) == pytest.approx(14.1, abs=2 * NEAR)


def test_the_qwen_family_fits() -> None:
    report = pair(awq(QWEN_32B), (16384, 8), QWEN_7B, (32768, 8))
    assert report.verdict == "fits"
    assert report.gpus[0].left_bytes / GIB == pytest.approx(12.3, abs=2 * NEAR)


def test_the_16_bit_pair_is_short_by_what_the_arithmetic_says() -> None:
    report = pair(DEEPSEEK, (16384, 8), MISTRAL, (16384, 8))
    assert report.verdict == "does_not_fit"
    assert missing_gib(report) == pytest.approx(31.5, abs=2 * NEAR)
    two_each = pair(DEEPSEEK, (16384, 2), MISTRAL, (16384, 2))
    assert two_each.verdict in {"fits", "tight"}
    assert two_each.gpus[0].left_bytes / GIB == pytest.approx(3.8, abs=2 * NEAR)


def test_the_8_bit_pair_is_tight_at_16k_and_short_at_32k() -> None:
    tight = pair(gptq8(DEEPSEEK), (16384, 8), gptq8(MISTRAL), (16384, 8))
    assert tight.verdict == "tight"
    assert tight.gpus[0].left_bytes / GIB == pytest.approx(4.8, abs=2 * NEAR)
    short = pair(gptq8(DEEPSEEK), (16384, 8), gptq8(MISTRAL), (32768, 8))
    assert missing_gib(short) == pytest.approx(11.2, abs=2 * NEAR)


def test_a_single_coder_holds_17_8_requests_at_the_default_fraction() -> None:
    spec = model(
        "coder",
        gpu_memory_utilization=0.92,
        max_model_len=16384,
        max_num_seqs=8,
        max_num_batched_tokens=BATCHED,
    )
    report = assessed(profile(spec), {"coder": awq(DEEPSEEK)}, machine(card()))
    footprint = footprint_of(report, "coder")
    assert footprint.kv_cache_tokens == pytest.approx(291_539, rel=0.01)
    assert footprint.max_concurrency == pytest.approx(17.8, abs=0.1)


def test_the_second_of_two_engines_at_0_88_fails_the_start_check() -> None:
    specs = [model(name, gpu_memory_utilization=0.88) for name in ("coder", "general")]
    report = assessed(
        profile(*specs), {"coder": awq(DEEPSEEK), "general": awq(MISTRAL)}, machine(card())
    )
    assert report.verdict == "does_not_fit"
    (short,) = report.shortfalls
    # The worked figure has the second engine's context taken off already.
    assert (short.available_bytes / GIB) - 0.5 == pytest.approx(10.4, abs=0.05)


def test_50_gib_holds_a_little_more_than_eight_requests() -> None:
    spec = model(
        "coder",
        memory_bytes=50 * GIB + GIB // 2,  # the worked figure is of the budget alone
        max_model_len=16384,
        max_num_seqs=8,
        max_num_batched_tokens=BATCHED,
    )
    report = assessed(profile(spec), {"coder": awq(DEEPSEEK)}, machine(card()))
    assert footprint_of(report, "coder").max_concurrency == pytest.approx(8.15, abs=0.05)


def test_two_l4_hold_ten_requests_of_32k_with_tensor_parallel_2() -> None:
    demand = Demand(context_tokens=32768, concurrency=10)
    spec = model("general", demand=demand, tensor_parallel_size=2)
    two = machine(card(22.03), card(22.03, index=1))
    report = assessed(profile(spec), {"general": QWEN_7B}, two)
    assert report.verdict == "fits"
    assert grant_of(report, "general").gpus == (0, 1)
    footprint = footprint_of(report, "general")
    assert footprint.kv_cache_bytes / GIB == pytest.approx(8.75, abs=0.01)
    overhead = footprint.activation_bytes + footprint.cuda_graph_bytes + footprint.non_torch_bytes
    assert 0.45 <= overhead / GIB <= 1.0
    both = assessed(
        profile(spec, model("coder", demand=demand, tensor_parallel_size=2)),
        {"general": QWEN_7B, "coder": QWEN_7B},
        two,
    )
    assert both.verdict == "does_not_fit"


@pytest.mark.parametrize(
    ("arch", "kv_dtype", "length", "expected"),
    [
        (awq(QWEN_7B), "fp8", 32768, 16.0),
        (awq(QWEN_7B), None, 32768, 8.0),
        (QWEN_7B, "fp8", 32768, 5.9),
        (QWEN_7B, None, 16384, 6.0),
    ],
)
def test_one_l4_holds_what_the_worked_examples_say(
    arch: Architecture, kv_dtype: str | None, length: int, expected: float
) -> None:
    spec = model(
        "general",
        gpu_memory_utilization=0.9,
        kv_cache_dtype=kv_dtype,
        max_model_len=length,
        max_num_seqs=16,
    )
    report = assessed(profile(spec), {"general": arch}, machine(card(22.03)))
    footprint = footprint_of(report, "general")
    # The error of an engine, in requests of that length.
    request = footprint.kv_bytes_per_token * length / GIB
    assert footprint.max_concurrency == pytest.approx(expected, abs=NEAR / request)


def test_a_sliding_window_bounds_what_a_long_request_holds() -> None:
    from dataclasses import replace

    windowed = replace(MISTRAL, sliding_window=4096, sliding_layers=32)
    wide = kv_shape(windowed, max_num_batched_tokens=8192)
    assert wide.blocks_per_request(32768) == 1281
    assert wide.request_bytes(32768) / GIB == pytest.approx(2.50, abs=0.005)
    narrow = kv_shape(windowed, max_num_batched_tokens=2048)
    assert narrow.request_bytes(32768) / GIB == pytest.approx(1.00, abs=0.005)
