"""What a card is too old for, and who may use it, is said before vLLM finds out."""

from dataclasses import replace
from typing import Any

import pytest

from gpuserve.errors import Problem
from gpuserve.memory.architecture import Architecture
from gpuserve.memory.quantization import Quantization
from gpuserve.preconditions.cards import card_problems, usage_problems
from gpuserve.readings import ComputeMode, Gpu
from tests.unit.memory.models import MISTRAL, awq, card, machine, model

TESLA_T4, A100, L4, H100, B200 = (7, 5), (8, 0), (8, 9), (9, 0), (10, 0)
GEMMA = replace(MISTRAL, model_type="gemma3_text")


def stored(method: str) -> Architecture:
    return replace(MISTRAL, quantization=Quantization(method=method, bits=8))


def said(
    capability: tuple[int, int] | None, arch: Architecture = MISTRAL, **settings: Any
) -> list[tuple[str, bool]]:
    """Return (key, warning) of each problem of one model on one card."""
    gpu = replace(card(), compute_capability=capability)
    problems = card_problems(model("a", **settings), arch, [gpu])
    assert all(p.message and (p.hint or p.warning) for p in problems)
    return [(p.where.removeprefix("model[0]").lstrip("."), p.warning) for p in problems]


@pytest.mark.parametrize(
    ("capability", "arch", "settings", "expected"),
    [
        (H100, MISTRAL, {}, []),
        ((7, 0), MISTRAL, {}, [("", False)]),
        (TESLA_T4, MISTRAL, {"dtype": "bfloat16"}, [("dtype", False)]),
        (A100, MISTRAL, {"dtype": "bfloat16"}, []),
        (TESLA_T4, MISTRAL, {"dtype": "half"}, []),
        # Neither float16 nor bfloat16: vLLM would take twice the memory in float32.
        (TESLA_T4, GEMMA, {}, [("dtype", False)]),
        (TESLA_T4, GEMMA, {"dtype": "float32"}, []),
        (H100, GEMMA, {"dtype": "float16"}, [("dtype", False)]),
        (H100, awq(MISTRAL), {"dtype": "float32"}, [("dtype", False)]),
        (TESLA_T4, awq(MISTRAL), {}, []),
        (TESLA_T4, stored("mxfp4"), {}, [("model", False)]),
        (A100, stored("mxfp4"), {}, []),
        (H100, MISTRAL, {"quantization": "fp_quant"}, [("quantization", False)]),
        (A100, stored("fp8"), {}, [("model", True)]),
        (A100, MISTRAL, {"quantization": "fp8"}, [("quantization", True)]),
        (L4, stored("fp8"), {}, []),
        (H100, stored("modelopt_fp4"), {}, [("model", True)]),
        (B200, stored("modelopt_fp4"), {}, []),
        (TESLA_T4, MISTRAL, {"kv_cache_dtype": "fp8"}, [("kv_cache_dtype", False)]),
        (A100, MISTRAL, {"kv_cache_dtype": "fp8_e5m2"}, [("kv_cache_dtype", True)]),
        (L4, MISTRAL, {"kv_cache_dtype": "fp8"}, []),
        (TESLA_T4, MISTRAL, {"kv_cache_dtype": "bfloat16"}, [("kv_cache_dtype", False)]),
        (None, stored("mxfp4"), {"dtype": "bfloat16", "kv_cache_dtype": "fp8"}, []),
    ],
)
def test_a_card_that_is_too_old_is_said(
    capability: tuple[int, int] | None,
    arch: Architecture,
    settings: dict[str, Any],
    expected: list[tuple[str, bool]],
) -> None:
    assert said(capability, arch, **settings) == expected


def test_the_oldest_card_of_a_group_decides() -> None:
    new = replace(card(index=0), compute_capability=H100)
    old = replace(card(index=1), compute_capability=TESLA_T4, name="T4")
    (problem,) = card_problems(model("a", dtype="bfloat16"), MISTRAL, [new, old])
    assert "GPU 1 (T4) has compute capability 7.5" in problem.message


def used(mode: ComputeMode, engines: int, *, mps: bool = False, **reading: Any) -> list[Problem]:
    gpu: Gpu = replace(card(), compute_mode=mode, **reading)
    models = [(replace(model(f"m{n}"), index=n), (0,)) for n in range(engines)]
    return list(usage_problems(replace(machine(gpu), mps=mps), models))


def test_an_exclusive_card_takes_one_engine_and_not_two() -> None:
    assert used("exclusive", 1) == []
    (problem,) = used("exclusive", 2)
    assert not problem.warning
    assert problem.where == "model[1]"
    assert problem.hint == "nvidia-smi -i 0 -c DEFAULT"
    # MPS is one process for the driver; that it runs is worth a warning of its own.
    (shared,) = used("exclusive", 2, mps=True)
    assert shared.warning
    assert "Multi-Process Service" in shared.message


def test_a_prohibited_card_takes_nobody_and_an_unused_one_is_not_mentioned() -> None:
    (problem,) = used("prohibited", 1)
    assert not problem.warning
    assert list(usage_problems(machine(replace(card(), compute_mode="prohibited")), [])) == []


def test_a_screen_and_a_change_of_ecc_are_warnings() -> None:
    found = used("default", 1, display=True, ecc_changes=True)
    assert [p.warning for p in found] == [True, True]
    assert "drives a screen" in found[0].message
    assert "ECC" in found[1].message
