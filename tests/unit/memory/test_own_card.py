"""Predictions against starts that were measured on one H100 with vLLM 0.26.0."""

from dataclasses import replace

import pytest

from gpuserve.machine.checkpoint import catalogue_facts
from gpuserve.memory.architecture import Architecture
from gpuserve.memory.engine import Engine, ModelFacts, resolve
from gpuserve.memory.release import Release
from gpuserve.profile.spec import ModelSpec
from gpuserve.units import GIB, MIB
from scripts.accuracy.owncard import Start, measured, starts
from tests.unit.memory.models import MISTRAL, QWEN_7B, awq

MIXTRAL = "mistralai/Mixtral-8x7B-Instruct-v0.1"
QWEN_MOE = "Qwen/Qwen3-30B-A3B"


@pytest.mark.parametrize("start", starts(), ids=lambda s: f"{s.measured['name']}-{s.first}")
def test_every_term_is_what_vllm_printed(start: Start) -> None:
    row = start.measured
    assert start.made.weights_gib == pytest.approx(row["weights_gib"], abs=0.03)
    assert start.activation_gib == pytest.approx(row["activation_peak_gib"], abs=0.07)
    assert start.engine.non_torch / GIB == pytest.approx(row["non_torch_gib"], abs=0.04)
    assert start.made.graphs_gib == pytest.approx(row["cudagraph_gib"], abs=0.06)
    assert start.kv_gib == pytest.approx(row["available_kv_gib"], abs=0.06)
    assert start.tokens == pytest.approx(row["kv_cache_tokens"], rel=0.01)


@pytest.mark.parametrize("start", starts(), ids=lambda s: f"{s.measured['name']}-{s.first}")
def test_no_engine_that_is_ready_holds_more_than_it_is_charged_and_a_little(start: Start) -> None:
    assert start.measured["held_mib"] * MIB / GIB < start.planned_gib + 0.05


def test_what_one_holds_under_load_is_inside_the_margin() -> None:
    for start in starts():
        load = start.measured.get("held_under_load_mib")
        if load is not None:
            assert load * MIB / GIB < start.planned_gib + start.engine.margin_bytes / GIB


def test_the_total_of_the_card_is_nvmls_less_what_is_reserved() -> None:
    card = measured()["card"]
    assert card["nvml_total_bytes"] - card["nvml_reserved_bytes"] == card["cuda_total_bytes"]


def engine(
    arch: Architecture | None,
    release: Release | None = (0, 26),
    *,
    hopper: bool = False,
    **settings: object,
) -> Engine:
    spec = ModelSpec(index=0, name="a", model="org/a", max_model_len=4096, **settings)  # type: ignore[arg-type]
    return resolve(spec, ModelFacts(architecture=arch, release=release, hopper=hopper))


@pytest.mark.parametrize(
    ("release", "inside"),
    [((0, 25), True), ((0, 26), False), ((0, 28), False), ((0, 29), True), (None, True)],
)
def test_graphs_of_dense_models_are_on_top_of_the_budget_from_0_26_to_0_28(
    release: Release | None, inside: bool
) -> None:
    found = engine(MISTRAL, release)
    graphs = engine(MISTRAL, (0, 30)).graphs
    assert graphs > 0
    assert found.graphs == (graphs if inside else 0)
    assert found.context == 512 * MIB + (0 if inside else graphs)


def test_what_the_second_runner_does_not_take_pays_from_the_budget() -> None:
    mixture = catalogue_facts(QWEN_MOE, None).architecture
    assert mixture is not None
    assert engine(mixture).graphs > 0
    assert engine(mixture, env=(("VLLM_USE_V2_MODEL_RUNNER", "1"),)).graphs == 0
    assert engine(MISTRAL, env=(("VLLM_USE_V2_MODEL_RUNNER", "0"),)).graphs > 0
    guessing = ("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 3}')
    assert engine(MISTRAL, extra_args=guessing).graphs > 0
    unpaid = (("VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS", "0"),)
    assert engine(MISTRAL, None, env=unpaid).graphs == 0


def test_a_first_start_is_part_of_the_margin_and_not_of_the_peak() -> None:
    large, eager = engine(QWEN_7B), engine(QWEN_7B, enforce_eager=True)
    table = QWEN_7B.vocab * QWEN_7B.hidden * 2
    assert large.activation + large.first_start == table + 2 * 2048 * QWEN_7B.hidden * 2
    footprint = large.footprint(GIB)
    assert footprint is not None
    assert footprint.first_start_bytes == large.first_start > GIB // 2
    assert eager.first_start == 0
    assert large.margin_bytes - large.first_start == int(large.weights * 0.011)
    small = engine(replace(QWEN_7B, vocab=32_000))
    assert small.first_start == 0
    assert engine(QWEN_7B, (0, 19)).first_start == 0


def test_zero_points_are_wider_on_hopper_and_only_those_of_awq() -> None:
    packed = awq(MISTRAL)
    plain, wide = engine(packed), engine(packed, hopper=True)
    linear = 32 * (4096 * (4096 + 2 * 1024) + 4096 * 4096 + 3 * 4096 * 14336)
    # Each matrix of a layer is rounded to a byte.
    assert wide.weights - plain.weights == pytest.approx(linear / 128 * 1.5, abs=200)
    assert engine(MISTRAL, hopper=True).weights == engine(MISTRAL).weights
    assert packed.quantization is not None
    gptq = replace(packed, quantization=replace(packed.quantization, method="gptq"))
    assert engine(gptq, hopper=True).weights == engine(gptq).weights
    bare = {"enforce_eager": True}
    eager, wide_eager = engine(packed, **bare), engine(packed, hopper=True, **bare)  # type: ignore[arg-type]
    assert wide_eager.context - eager.context == 16 * MIB


def test_graphs_on_hopper_hold_the_parts_of_each_sequences_keys() -> None:
    plain, wide = engine(MISTRAL, (0, 30)), engine(MISTRAL, (0, 30), hopper=True)
    assert wide.graphs - plain.graphs == 32 * (32 * 128) * 128 * 4  # 128 sequences by default
    half = engine(MISTRAL, (0, 30), hopper=True, max_num_seqs=64)
    assert half.graphs - engine(MISTRAL, (0, 30), max_num_seqs=64).graphs == 32 * 32 * 128 * 64 * 4
    two = engine(MISTRAL, (0, 30), hopper=True, tensor_parallel_size=2)
    assert two.graphs - engine(MISTRAL, (0, 30), tensor_parallel_size=2).graphs == (
        32 * 16 * 128 * 128 * 4
    )
    assert engine(MISTRAL, (0, 30), hopper=True, enforce_eager=True).graphs == 0
    # Before 0.11 nothing but pieces was captured.
    assert engine(MISTRAL, (0, 10), hopper=True).graphs == engine(MISTRAL, (0, 10)).graphs


def test_awq_needs_room_for_its_largest_matrix_in_32_bit_twice_while_it_loads() -> None:
    packed = awq(MISTRAL)
    now, before = engine(packed), engine(packed, (0, 19))
    largest = 2 * 4096 * 14336  # gate and up stand together
    assert now.loading_peak - now.weights == 2 * largest * 4
    assert before.loading_peak - before.weights < largest
    # What was seen on an idle card holds what is planned, and PyTorch's cache.
    coder = starts()[0].engine
    seen = measured()["card"]["peak_while_loading_mib"]["coder"] * MIB
    assert coder.weights < coder.loading_peak < seen
