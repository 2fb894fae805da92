"""A measured cache counts while nothing that it was measured with has changed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuserve.memory.engine import ModelFacts
from gpuserve.memory.report import FitReport
from gpuserve.pins import Measured, pin_of, settings_of, with_pins
from gpuserve.planning import Executable, make_plan
from gpuserve.profile.edit import with_pin
from gpuserve.profile.load import load_text
from gpuserve.profile.spec import Demand, ModelSpec, Pin
from gpuserve.units import GIB
from tests.unit.memory.models import QWEN_7B, awq, card, footprint_of, machine, model, profile

FACTS = ModelFacts(architecture=awq(QWEN_7B))
DEMAND = Demand(context_tokens=8192, concurrency=4)
SPEC = model("a", demand=DEMAND, vllm="/v/vllm")
BOX = machine(card(22.03))


def report_of(spec: ModelSpec, version: str = "0.33.0") -> FitReport:
    plan = make_plan(
        profile(spec),
        BOX,
        device="cuda",
        facts={spec.name: FACTS},
        executables={"/v/vllm": Executable(path="/v/vllm", version=version)},
        run_dir=Path("/run/x"),
    )
    return plan.report


def measured_pin(**changes: Any) -> Pin:
    footprint = footprint_of(report_of(SPEC), "a")
    tokens = footprint.kv_cache_tokens + 16 * 20
    size = footprint.kv_bytes_per_token * tokens
    pin = pin_of(
        SPEC,
        FACTS,
        footprint,
        Measured(kv_cache_bytes=round(size / GIB * 100) * GIB // 100, kv_cache_tokens=tokens),
        version="0.33.0",
        cards=["card"],
    )
    assert pin is not None
    assert pin.kv_cache_memory_bytes == size
    return replace(pin, **changes)


def test_a_pin_is_exactly_what_vllm_is_told_and_what_is_charged() -> None:
    pin = measured_pin()
    spec = replace(SPEC, pinned=pin)
    plan = make_plan(
        profile(spec),
        BOX,
        device="cuda",
        facts={"a": FACTS},
        executables={"/v/vllm": Executable(path="/v/vllm", version="0.33.0")},
        run_dir=Path("/run/x"),
    )
    assert plan.report.verdict == "fits"
    assert footprint_of(plan.report, "a").kv_cache_bytes == pin.kv_cache_memory_bytes
    argv = plan.launches[0].argv
    assert argv[argv.index("--kv-cache-memory-bytes") + 1] == str(pin.kv_cache_memory_bytes)
    assert plan.profile.models[0].pinned == pin  # the profile stays what the user wrote
    assert plan.profile.models[0].kv_cache_memory_bytes is None


@pytest.mark.parametrize(
    ("spec", "pin", "why"),
    [
        (SPEC, {"vllm": "0.32.0"}, "measured with vLLM 0.32.0, and 0.33.0 is here"),
        (SPEC, {"cards": ("NVIDIA L4",)}, "measured on NVIDIA L4, and this is card"),
        (replace(SPEC, kv_cache_dtype="fp8"), {}, "a setting of the model has changed"),
        (replace(SPEC, extra_args=("--seed", "1")), {}, "a setting of the model has changed"),
    ],
)
def test_a_pin_that_no_longer_holds_is_dropped_with_a_warning(
    spec: ModelSpec, pin: dict[str, Any], why: str
) -> None:
    report = report_of(replace(spec, pinned=measured_pin(**pin)))
    (problem,) = [p for p in report.problems if p.where == "model[0].pinned"]
    assert problem.warning
    assert why in problem.message
    assert report.verdict == "fits"
    assert (
        footprint_of(report, "a").kv_cache_bytes
        == footprint_of(report_of(spec), "a").kv_cache_bytes
    )


def test_what_memory_does_not_depend_on_leaves_a_pin_alone() -> None:
    other = replace(SPEC, aliases=("b",), port=9001, gpus=(0,), tool_call_parser="hermes", name="z")
    assert settings_of(other, FACTS) == settings_of(SPEC, FACTS)
    unfilled = replace(SPEC, demand=None, max_model_len=8192, max_num_seqs=4)
    assert settings_of(unfilled, FACTS) == settings_of(SPEC, FACTS)


def test_a_pin_says_nothing_on_a_cpu_box_and_needs_no_release_elsewhere() -> None:
    pinned = profile(replace(SPEC, pinned=measured_pin()))
    kept, problems = with_pins(pinned, {"a": FACTS}, BOX.gpus, {}, "cuda")
    assert problems == ()
    assert kept.models[0].kv_cache_memory_bytes is not None
    kept, (problem,) = with_pins(pinned, {"a": FACTS}, (), {}, "cpu")
    assert "CPU box" in problem.message
    assert kept.models[0].kv_cache_memory_bytes is None


def test_a_rounded_figure_is_taken_down_by_what_it_may_be_too_large() -> None:
    footprint = footprint_of(report_of(SPEC), "a")
    only_log = Measured(kv_cache_bytes=3 * GIB, kv_cache_tokens=None)
    hybrid = Measured(kv_cache_bytes=3 * GIB, kv_cache_tokens=10)
    for measured in (only_log, hybrid):
        pin = pin_of(SPEC, FACTS, footprint, measured, version="0.33.0", cards=["card"])
        assert pin is not None
        assert 2.99 * GIB < pin.kv_cache_memory_bytes < 3 * GIB
    silent = Measured(kv_cache_bytes=None, kv_cache_tokens=None)
    assert pin_of(SPEC, FACTS, footprint, silent, version="0.33.0", cards=["card"]) is None


TEXT = """\
# ours
[[model]]
name = "a"  # the coder
model = "org/a"   # odd   spacing
demand = { context_tokens = 8192, concurrency = 4 }

# the other one
[[model]]
name = "b"
model = "org/b"
"""


def test_a_pin_is_written_beside_the_comments_and_read_back() -> None:
    pin = measured_pin()
    text = with_pin(TEXT, "a", pin)
    for line in TEXT.splitlines():
        assert line in text.splitlines()
    assert load_text(text, path="/p.toml").models[0].pinned == pin
    assert load_text(text, path="/p.toml").models[1].pinned is None
    again = with_pin(text, "a", replace(pin, vllm="0.34.0"))
    assert again.count("pinned") == 1
    assert with_pin(again, "a", None).split() == TEXT.split()
    with pytest.raises(KeyError):
        with_pin(TEXT, "c", pin)


def test_a_box_with_unlike_cards_wants_them_named() -> None:
    other = replace(card(22.03, index=1), name="another")
    pinned = profile(replace(SPEC, pinned=measured_pin()))
    gpus = (*BOX.gpus, other)
    _, (problem,) = with_pins(pinned, {"a": FACTS}, gpus, {}, "cuda")
    assert "name the model's with `gpus`" in problem.message
    named = profile(replace(SPEC, pinned=measured_pin(), gpus=(0,)))
    assert with_pins(named, {"a": FACTS}, gpus, {}, "cuda")[1] == ()
