"""Where engines go, what they are charged, and what is said when they do not fit."""

from dataclasses import replace

import pytest

from gpuserve.memory.fraction import charged_bytes, fraction_down, fraction_up
from gpuserve.memory.report import FitReport
from gpuserve.profile.spec import Demand, UpstreamSpec
from gpuserve.readings import GpuProcess
from gpuserve.units import GIB
from tests.unit.memory.models import (
    DEEPSEEK,
    MISTRAL,
    QWEN_7B,
    assessed,
    awq,
    card,
    footprint_of,
    grant_of,
    machine,
    model,
    profile,
)


def messages(report: FitReport, *, warnings: bool = False) -> list[str]:
    return [p.message for p in report.problems if p.warning is warnings]


def test_a_fraction_has_four_decimals_and_is_charged_as_rounded() -> None:
    gpu = card(94.97)
    fraction = fraction_up(gpu, 50 * GIB)
    assert fraction == 0.5265
    assert charged_bytes(gpu, fraction) >= 50 * GIB > charged_bytes(gpu, fraction - 0.0001)
    assert charged_bytes(gpu, fraction_down(gpu, 50 * GIB)) <= 50 * GIB


def test_a_stated_size_includes_the_context() -> None:
    spec = model("a", memory_bytes=50 * GIB, max_model_len=16384)
    report = assessed(profile(spec), {"a": awq(DEEPSEEK)}, machine(card()))
    grant = grant_of(report, "a")
    assert grant.reserved_bytes == pytest.approx(50 * GIB, abs=card().total_bytes // 10_000)
    assert grant.reserved_bytes == footprint_of(report, "a").total_bytes


def test_a_stated_fraction_is_kept_to_the_digit() -> None:
    report = assessed(
        profile(model("a", gpu_memory_utilization=0.87654)), {"a": QWEN_7B}, machine(card())
    )
    assert grant_of(report, "a").gpu_memory_utilization == 0.87654


def test_engines_that_state_nothing_hold_the_same_number_of_full_length_requests() -> None:
    specs = [model("a", max_model_len=16384), model("b", max_model_len=32768)]
    report = assessed(profile(*specs), {"a": awq(DEEPSEEK), "b": awq(MISTRAL)}, machine(card()))
    a, b = footprint_of(report, "a"), footprint_of(report, "b")
    assert a.max_concurrency == pytest.approx(b.max_concurrency, rel=0.01)
    assert 0 <= report.gpus[0].left_bytes / GIB <= 0.33


def test_engines_without_gpus_are_spread_over_the_emptiest_cards() -> None:
    report = assessed(
        profile(model("a"), model("b")),
        {"a": QWEN_7B, "b": QWEN_7B},
        machine(card(22.03), card(22.03, index=1)),
    )
    assert {grant_of(report, "a").gpus, grant_of(report, "b").gpus} == {(0,), (1,)}


def test_small_engines_make_room_for_one_that_needs_a_whole_card() -> None:
    sizes = {"large": 40, "first": 14, "second": 14, "third": 12}
    specs = [model(n, memory_bytes=s * GIB, max_model_len=2048) for n, s in sizes.items()]
    archs = {name: awq(MISTRAL) for name in sizes}
    report = assessed(profile(*specs), archs, machine(card(41), card(41, index=1)))
    assert report.shortfalls == ()
    large = grant_of(report, "large").gpus
    assert all(grant_of(report, name).gpus != large for name in sizes if name != "large")


def test_ranks_on_cards_of_different_size_are_charged_by_their_own_card() -> None:
    spec = model("a", tensor_parallel_size=2, memory_bytes=16 * GIB, max_model_len=8192)
    report = assessed(profile(spec), {"a": QWEN_7B}, machine(card(22.03), card(44.39, index=1)))
    assert report.shortfalls == ()
    small, large = report.gpus
    fraction = grant_of(report, "a").gpu_memory_utilization
    assert fraction is not None
    for share in (small, large):
        assert share.reserved_bytes == charged_bytes(share.gpu, fraction) + GIB // 2
    # The rank with less room decides how much the cache holds.
    inside = footprint_of(report, "a").total_bytes - footprint_of(report, "a").context_bytes
    assert inside == charged_bytes(small.gpu, fraction)


def test_stated_gpus_are_respected() -> None:
    report = assessed(
        profile(model("a", gpus=(1,)), model("b", gpus=(1,))),
        {"a": awq(QWEN_7B), "b": awq(QWEN_7B)},
        machine(card(22.03), card(22.03, index=1)),
    )
    assert grant_of(report, "a").gpus == grant_of(report, "b").gpus == (1,)
    assert report.gpus[0].reserved_bytes == 0


def test_memory_that_others_hold_makes_it_not_now() -> None:
    spec = model("a", memory_bytes=40 * GIB, max_model_len=8192)
    report = assessed(profile(spec), {"a": awq(DEEPSEEK)}, machine(card(48, free_gib=20)))
    assert report.verdict == "not_now"
    (short,) = report.shortfalls
    assert short.now
    assert short.available_bytes == 20 * GIB
    (message,) = messages(report)
    assert "is free now" in message


def test_who_holds_the_memory_is_named() -> None:
    spec = model("a", memory_bytes=40 * GIB, max_model_len=8192)
    held = replace(
        card(48, free_gib=20),
        processes=(
            GpuProcess(pid=7, used_bytes=8 * GIB, name="python train.py"),
            GpuProcess(pid=901, used_bytes=20 * GIB, name="VLLM::EngineCore"),
            GpuProcess(pid=8, used_bytes=0),
        ),
    )
    report = assessed(profile(spec), {"a": awq(DEEPSEEK)}, machine(held))
    (problem,) = [p for p in report.problems if not p.warning]
    assert problem.hint == (
        "wait for others who hold memory, or stop them: "
        "VLLM::EngineCore (pid 901) holds 20.00 GiB, "
        "python train.py (pid 7) holds 8.00 GiB, a process whose name is hidden (pid 8) holds some"
    )


def test_an_engine_that_states_nothing_takes_only_what_is_free() -> None:
    spec = model("a", max_model_len=8192)
    report = assessed(profile(spec), {"a": awq(MISTRAL)}, machine(card(48, free_gib=20)))
    assert report.verdict == "fits"
    assert grant_of(report, "a").reserved_bytes <= 20 * GIB


def test_an_upstream_s_reservation_is_kept_free() -> None:
    given = replace(
        profile(model("a", max_model_len=8192)),
        upstreams=(
            UpstreamSpec(
                index=0, name="e", url="http://h", models=("m",), gpus=(0,), reserve_bytes=8 * GIB
            ),
        ),
    )
    report = assessed(given, {"a": awq(MISTRAL)}, machine(card(24)))
    assert grant_of(report, "a").reserved_bytes <= 16 * GIB
    assert report.gpus[0].reserved_bytes <= 24 * GIB


def test_a_demand_that_is_too_large_names_the_changes_that_fit() -> None:
    spec = model("a", demand=Demand(context_tokens=32768, concurrency=8))
    report = assessed(profile(spec), {"a": QWEN_7B}, machine(card(22.03)))
    assert report.verdict == "does_not_fit"
    (problem,) = [p for p in report.problems if not p.warning]
    assert problem.hint is not None
    assert "demand.context_tokens = 14336 instead of 32768" in problem.hint
    assert "demand.concurrency = 3 instead of 8" in problem.hint
    assert 'kv_cache_dtype = "fp8"' not in problem.hint
    smaller = model("a", demand=Demand(context_tokens=14336, concurrency=8))
    assert not assessed(profile(smaller), {"a": QWEN_7B}, machine(card(22.03))).shortfalls
    larger = model("a", demand=Demand(context_tokens=14336 + 1024, concurrency=8))
    assert assessed(profile(larger), {"a": QWEN_7B}, machine(card(22.03))).shortfalls


def test_a_fraction_too_small_for_one_request_names_the_size_that_holds_it() -> None:
    spec = model("a", gpu_memory_utilization=0.3, max_model_len=16384)
    report = assessed(profile(spec), {"a": QWEN_7B}, machine(card(22.03)))
    assert report.verdict == "does_not_fit"
    (problem,) = [p for p in report.problems if not p.warning]
    assert problem.hint is not None
    assert 'memory = "16.7 GiB"' in problem.hint


@pytest.mark.parametrize(
    ("settings", "where", "words"),
    [
        ({"gpus": (3,)}, "model[0].gpus[0]", "there is no GPU 3"),
        ({"max_model_len": 40960}, "model[0].max_model_len", "beyond the model"),
        ({"tensor_parallel_size": 4}, "model[0].tensor_parallel_size", "needs 4 GPUs"),
        (
            {"max_num_batched_tokens": 8, "max_num_seqs": 16},
            "model[0].max_num_batched_tokens",
            "less than max_num_seqs",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(
    settings: dict[str, object], where: str, words: str
) -> None:
    two = machine(card(22.03), card(22.03, index=1))
    report = assessed(profile(model("a", **settings)), {"a": QWEN_7B}, two)
    assert report.verdict == "invalid"
    (problem,) = report.problems
    assert problem.where == where
    assert words in problem.message


def test_a_gpu_that_the_operator_hides_is_not_there_and_the_problem_says_who_hides_it() -> None:
    ours = replace(machine(card(22.03, index=2)), hidden_gpus=(0, 1, 3))
    for settings, message in (
        ({"gpus": (3,)}, "GPU 3 is hidden: CUDA_VISIBLE_DEVICES leaves 1 of 4 (2: card)"),
        ({"gpus": (7,)}, "there is no GPU 7: CUDA_VISIBLE_DEVICES leaves 1 of 4 (2: card)"),
        (
            {"tensor_parallel_size": 2},
            "it needs 2 GPUs, CUDA_VISIBLE_DEVICES leaves 1 of 4 (2: card)",
        ),
    ):
        report = assessed(profile(model("a", **settings)), {"a": QWEN_7B}, ours)
        assert report.verdict == "invalid"
        assert messages(report) == [message]
    report = assessed(profile(model("a", max_model_len=4096)), {"a": QWEN_7B}, ours)
    assert grant_of(report, "a").gpus == (2,)


def test_a_small_batch_lowers_the_number_of_sequences_that_is_written() -> None:
    spec = model("a", max_num_batched_tokens=64, max_model_len=4096)
    report = assessed(profile(spec), {"a": QWEN_7B}, machine(card(22.03)))
    assert grant_of(report, "a").max_num_seqs == 64
    crowd = Demand(context_tokens=512, concurrency=65)
    crowded = model("a", max_num_batched_tokens=64, demand=crowd)
    refused = assessed(profile(crowded), {"a": QWEN_7B}, machine(card(22.03)))
    assert refused.verdict == "invalid"


def test_heads_that_cannot_be_divided_are_refused() -> None:
    three = machine(*(card(22.03, index=index) for index in range(3)))
    report = assessed(profile(model("a", tensor_parallel_size=3)), {"a": QWEN_7B}, three)
    assert report.verdict == "invalid"
    (message,) = messages(report)
    assert "28 attention heads cannot be divided among 3 GPUs" in message


def test_quantization_groups_that_a_rank_would_cut_are_refused() -> None:
    # 18,944 columns are 148 groups of 128: two and four ranks divide them, eight do not.
    eight = machine(*(card(22.03, index=index) for index in range(8)))
    narrow = replace(awq(QWEN_7B), heads=32, hidden=4096, kv_heads=8)
    report = assessed(profile(model("a", tensor_parallel_size=8)), {"a": narrow}, eight)
    (message,) = messages(report)
    assert "groups of 128" in message
    four = assessed(profile(model("a", tensor_parallel_size=4)), {"a": narrow}, eight)
    assert messages(four) == []


def test_a_rope_factor_beyond_the_training_is_not_taken_silently() -> None:
    report = assessed(profile(model("a")), {"a": awq(DEEPSEEK)}, machine(card()))
    (warning,) = messages(report, warnings=True)
    assert "65536" in warning
    assert grant_of(report, "a").max_model_len == 16384


def test_a_chat_route_to_a_base_model_is_warned_about() -> None:
    from gpuserve.profile.spec import RoutingSpec

    base = replace(awq(MISTRAL), chat_template=False)
    given = replace(
        profile(model("a"), model("b")),
        routing=RoutingSpec(code="a", general="b", default="b"),
    )
    report = assessed(given, {"a": awq(MISTRAL), "b": base}, machine(card()))
    (warning,) = report.problems
    assert warning.warning
    assert warning.where == "routing.general"
    assert "every chat request" in warning.message


def test_a_model_of_which_nothing_is_known_needs_a_stated_size() -> None:
    unknown = assessed(profile(model("a")), {"a": None}, machine(card()))
    assert unknown.verdict == "invalid"
    stated = assessed(profile(model("a", memory_bytes=20 * GIB)), {"a": None}, machine(card()))
    assert stated.verdict == "risky"
    assert grant_of(stated, "a").footprint is None
    (warning,) = messages(stated, warnings=True)
    assert "cannot be proven" in warning


def test_a_cpu_box_is_charged_for_processes_weights_and_whole_gibs_of_cache() -> None:
    specs = [model(n, kv_cache_memory_bytes=GIB, max_model_len=1024) for n in ("a", "b")]
    archs = {"a": awq(MISTRAL), "b": awq(MISTRAL)}
    report = assessed(profile(*specs), archs, machine(ram_gib=24), cpu=True)
    assert report.device == "cpu"
    assert report.gpus == ()
    grant = grant_of(report, "a")
    assert grant.kv_cache_space_gib == 1
    footprint = footprint_of(report, "a")
    assert footprint.context_bytes == 2_900_000_000
    assert grant.reserved_bytes == footprint.total_bytes
    short = assessed(profile(*specs), archs, machine(ram_gib=12), cpu=True)
    assert short.verdict == "does_not_fit"
    assert short.shortfalls[0].gpu is None


def test_a_cpu_engine_that_states_nothing_takes_no_more_than_it_can_use() -> None:
    tiny = replace(MISTRAL, layers=2, heads=4, kv_heads=2, head_dim=64, hidden=256)
    report = assessed(
        profile(model("a", max_model_len=1024)), {"a": tiny}, machine(ram_gib=64), cpu=True
    )
    assert grant_of(report, "a").kv_cache_space_gib == 1


def test_two_engines_at_88_percent_are_told_why_they_cannot_share_a_card() -> None:
    models = [model(n, gpu_memory_utilization=0.88, max_model_len=4096) for n in ("a", "b")]
    report = assessed(profile(*models), {"a": awq(MISTRAL), "b": awq(MISTRAL)}, machine(card()))
    assert report.verdict == "does_not_fit"
    (problem,) = report.problems
    assert "of the whole card, not of what is left (0.88 + 0.88 = 1.76)" in problem.message
    alone = assessed(profile(models[0]), {"a": awq(MISTRAL)}, machine(card(80.0, free_gib=4.0)))
    assert not any("whole card" in p.message for p in alone.problems)


def test_ranks_that_share_what_is_left_have_the_cache_that_their_smallest_card_holds() -> None:
    box = machine(card(22.03, index=0), card(94.97, index=1))
    wide = model("a", tensor_parallel_size=2, gpus=(0, 1), max_model_len=8192)
    alone = assessed(profile(wide), {"a": QWEN_7B}, box)
    assert alone.verdict == "fits"
    assert 0 <= alone.gpus[0].left_bytes / GIB <= 0.33
    beside = model("b", gpus=(1,), max_model_len=8192)
    both = assessed(profile(wide, beside), {"a": QWEN_7B, "b": QWEN_7B}, box)
    assert both.verdict == "fits"
    assert all(share.left_bytes >= 0 for share in both.gpus)


def test_a_card_too_small_for_a_demand_names_changes_that_fit_it_once_it_is_free() -> None:
    spec = model("a", demand=Demand(context_tokens=8192, concurrency=40), max_model_len=8192)
    busy = machine(card(22.03, free_gib=5))
    report = assessed(profile(spec), {"a": QWEN_7B}, busy)
    assert report.verdict == "does_not_fit"
    (problem,) = report.problems
    assert problem.hint is not None
    assert problem.hint.startswith("when nobody else holds memory: demand.context_tokens = ")


def test_a_model_is_put_onto_a_card_that_can_run_it() -> None:
    old = replace(card(31.74), name="V100", compute_capability=(7, 0))
    new = replace(card(23.58, index=1), name="RTX 3090", compute_capability=(8, 6))
    spec = model("a", demand=Demand(context_tokens=4096, concurrency=1), max_model_len=4096)
    report = assessed(profile(spec), {"a": awq(QWEN_7B)}, machine(old, new))
    assert grant_of(report, "a").gpus == (1,)
    # Where nothing else is there, the problem is told of the card that is.
    alone = assessed(profile(spec), {"a": awq(QWEN_7B)}, machine(old))
    assert grant_of(alone, "a").gpus == (0,)


def test_what_loading_needs_must_be_there_while_the_others_run() -> None:
    """AWQ is unpacked while it loads: 3.9 GiB of Mistral need 4.8 then."""
    awq_model = model("a", memory_bytes=round(5.15 * GIB), max_model_len=1024, max_num_seqs=8)
    models = {"a": awq(MISTRAL), "b": QWEN_7B}
    full = model("b", memory_bytes=round(16.85 * GIB), max_model_len=2048)
    report = assessed(profile(awq_model, full), models, machine(card(22.03)))
    assert report.verdict == "does_not_fit"
    (short,) = report.shortfalls
    assert short.model == "a"
    assert short.needed_bytes / GIB == pytest.approx(5.25, abs=0.02)
    smaller = replace(full, memory_bytes=round(16.6 * GIB))
    report = assessed(profile(awq_model, smaller), models, machine(card(22.03)))
    assert not report.shortfalls
