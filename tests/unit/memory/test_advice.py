"""What is proposed where a model does not fit: it was tried, and is no more than it takes."""

import re
from dataclasses import replace

import pytest

from gpuserve.memory.architecture import Architecture
from gpuserve.memory.report import FitReport
from gpuserve.profile.spec import Demand, ModelSpec
from gpuserve.readings import Machine
from tests.unit.memory.models import QWEN_7B, QWEN_32B, assessed, awq, card, machine, model, profile

L4 = 22.03


def report_of(spec: ModelSpec, arch: Architecture, box: Machine) -> FitReport:
    return assessed(profile(spec), {spec.name: arch}, box)


def hint_of(spec: ModelSpec, arch: Architecture, box: Machine) -> str:
    report = report_of(spec, arch, box)
    assert report.verdict == "does_not_fit"
    (hint,) = [p.hint for p in report.problems if not p.warning]
    assert hint is not None
    return hint


def test_a_smaller_step_is_offered_with_what_it_leaves() -> None:
    spec = model("m", max_model_len=4096, max_num_seqs=8, max_num_batched_tokens=32768)
    box = machine(card(19.0))
    hint = hint_of(spec, QWEN_7B, box)
    offered = re.search(
        r"max_num_batched_tokens = (\d+) instead of 32768: ([\d.]+) GiB beside weights and cache "
        r"instead of ([\d.]+) GiB",
        hint,
    )
    assert offered is not None, hint
    assert float(offered[2]) < float(offered[3])
    step = int(offered[1])
    assert report_of(replace(spec, max_num_batched_tokens=step), QWEN_7B, box).shortfalls == ()
    assert report_of(replace(spec, max_num_batched_tokens=2 * step), QWEN_7B, box).shortfalls
    assert " and " not in hint.replace("weights and cache", "")


def test_fewer_sequences_are_offered_but_none_that_were_promised() -> None:
    asked = {"max_model_len": 2048, "max_num_batched_tokens": 2048, "max_num_seqs": 1024}
    box = machine(card(16.9))
    hint = hint_of(model("m", **asked), QWEN_7B, box)
    assert "max_num_seqs = " in hint
    promised = model("m", **asked, demand=Demand(context_tokens=2048, concurrency=1024))
    assert "max_num_seqs = " not in hint_of(promised, QWEN_7B, box)


def test_two_changes_are_offered_where_one_does_not_do() -> None:
    spec = model("m", max_model_len=32768)
    box = machine(card(L4))
    first = hint_of(spec, QWEN_32B, box).split("; or ")[0]
    found = re.fullmatch(
        r"max_model_len = (\d+) instead of 32768 and a 4-bit checkpoint \(AWQ\): .*", first
    )
    assert found is not None, first
    length = int(found[1])
    for arch, tokens, fits in [
        (awq(QWEN_32B), length, True),
        (awq(QWEN_32B), length + 1024, False),
        (awq(QWEN_32B), 32768, False),
        (QWEN_32B, 1024, False),
    ]:
        report = report_of(replace(spec, max_model_len=tokens), arch, box)
        assert (report.shortfalls == ()) is fits, (tokens, arch.quantization)


def test_no_more_than_three_pairs_the_mildest_first() -> None:
    spec = model("m", max_model_len=131072, max_num_seqs=512, max_num_batched_tokens=16384)
    hint = hint_of(
        spec, replace(QWEN_32B, trained_len=131072, derived_len=131072), machine(card(40))
    )
    pairs = hint.split("; or ")
    assert 1 < len(pairs) <= 3
    assert all(" and " in pair.replace("weights and cache", "") for pair in pairs)


@pytest.mark.parametrize("total_gib", [1.0, 4.0])
def test_where_nothing_does_a_smaller_model_is_the_advice(total_gib: float) -> None:
    hint = hint_of(model("m", max_model_len=4096), QWEN_32B, machine(card(total_gib)))
    assert hint == "use a smaller model, a larger card, or more of them"
