"""A `quantization` that contradicts the checkpoint is refused as vLLM would refuse it."""

from dataclasses import replace

import pytest

from gpuserve.memory.quantization import Quantization
from gpuserve.preconditions.checkpoint import checkpoint_problems
from tests.unit.memory.models import MISTRAL, model


@pytest.mark.parametrize(
    ("stored", "asked", "refused"),
    [
        ("awq", None, False),
        ("awq", "awq_marlin", False),
        ("awq", "gptq", True),
        ("awq", "fp8", True),
        ("gptq", "gptq_marlin", False),
        ("gptq", "awq", True),
        ("compressed-tensors", "compressed-tensors", False),
        ("compressed-tensors", "fp8", True),
        (None, "awq", True),
        (None, "fp8", False),
        (None, "awqq", False),  # unknown words are doubted elsewhere
        ("mxfp4", "gpt_oss_mxfp4", False),
    ],
)
def test_what_the_profile_says_of_the_weights(
    stored: str | None, asked: str | None, refused: bool
) -> None:
    quant = Quantization(method=stored, bits=4, group_size=128) if stored else None
    arch = replace(MISTRAL, quantization=quant)
    problems = checkpoint_problems(model("a", quantization=asked), arch)
    assert [p.where for p in problems] == ["model[0].quantization"] * refused
    assert not any(p.warning for p in problems)


@pytest.mark.parametrize(
    ("quant", "warning"),
    [
        (Quantization(method="gptq", bits=4, group_size=16), True),
        (Quantization(method="awq", bits=4, group_size=256), True),
        (Quantization(method="awq", bits=8, group_size=128), False),
        (Quantization(method="bitsandbytes", bits=4, group_size=64), True),
        (Quantization(method="gptq", bits=8, group_size=None), None),
        (Quantization(method="awq", bits=4, group_size=64), None),
    ],
)
def test_kinds_that_are_slow_or_gone(quant: Quantization, warning: bool | None) -> None:
    problems = checkpoint_problems(model("a"), replace(MISTRAL, quantization=quant))
    assert [p.warning for p in problems] == ([] if warning is None else [warning])
    assert checkpoint_problems(model("a"), None) == ()
