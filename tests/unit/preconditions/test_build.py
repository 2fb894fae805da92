"""What an installed vLLM cannot run on, or does not take, is said with what to write instead."""

from dataclasses import replace

import pytest

from gpuserve.preconditions.build import (
    DROPPED,
    awq_flag_problem,
    driver_problem,
    option_of,
    option_problems,
)
from gpuserve.readings import Driver
from tests.unit.memory.models import model

KNOWN = frozenset({"--seed", "--enable-log-requests", "--kv-transfer-config", "--max-lora-rank"})
OLD = Driver(version="550.54", cuda=(12, 4))


@pytest.mark.parametrize(
    ("cuda", "driver", "device", "words"),
    [
        ("13.0", OLD, "cuda", "CUDA up to 12.4"),
        ("", OLD, "cuda", "without CUDA"),
        ("12.8", OLD, "cuda", None),  # minor versions are compatible
        ("13.0", Driver(version="580.1", cuda=(13, 0)), "cuda", None),
        ("13.0", OLD, "cpu", None),
        (None, OLD, "cuda", None),
        ("13.0", None, "cuda", None),
        ("13.0", Driver(version="550.54"), "cuda", None),
        ("nonsense", OLD, "cuda", None),
    ],
)
def test_a_driver_older_than_the_build_is_said(
    cuda: str | None, driver: Driver | None, device: str, words: str | None
) -> None:
    problem = driver_problem("engine.vllm", "/v/bin/vllm", cuda, driver, device)
    assert (problem is None) == (words is None)
    if problem is not None and words is not None:
        assert words in problem.message
        assert problem.hint
    if cuda == "13.0" and words:
        assert problem is not None
        assert "580 or newer" in (problem.hint or "")


@pytest.mark.parametrize(
    ("word", "option"),
    [
        ("--seed", "--seed"),
        ("--swap_space=4", "--swap-space"),
        ("--kv-transfer-config.role", "--kv-transfer-config"),
        ("4", None),
        ("-tp", None),
        ("--", None),
    ],
)
def test_options_are_read_as_vllm_reads_them(word: str, option: str | None) -> None:
    assert option_of(word) == option


def test_an_option_that_is_gone_ends_the_check() -> None:
    spec = model("a", extra_args=("--seed", "1", "--swap-space", "4"))
    for options in (KNOWN, None):
        (problem,) = option_problems(spec, options, "0.33.0")
        assert problem.where == "model[0].extra_args[2]"
        assert not problem.warning
        assert problem.hint == DROPPED["--swap-space"]
    # A vLLM whose source still names it takes it.
    assert option_problems(spec, KNOWN | {"--swap-space"}, "0.9.0") == ()


def test_an_option_that_nobody_knows_is_doubted_with_the_nearest() -> None:
    spec = model("a", extra_args=("--enable-log-request", "--sed", "--no-seed", "--max-lora", "x"))
    (problem,) = option_problems(spec, KNOWN, "0.33.0")  # the first and fourth are abbreviations
    assert problem.warning
    assert problem.where == "model[0].extra_args[1]"
    assert problem.hint == "did you mean --seed?"
    assert option_problems(spec, None, None) == ()


@pytest.mark.parametrize(
    ("version", "expected"), [("0.20.1", [False]), ("0.33.0", []), (None, [True])]
)
def test_expandable_segments_and_sleep_mode(version: str | None, expected: list[bool]) -> None:
    env = (("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True"),)
    spec = model("a", env=env, extra_args=("--enable-sleep-mode",))
    assert [p.warning for p in option_problems(spec, None, version)] == expected
    wide = replace(spec, extra_args=(), tensor_parallel_size=2)
    (problem,) = option_problems(wide, None, "0.33.0")
    assert problem.warning
    assert "all-reduce" in problem.message


@pytest.mark.parametrize(
    ("quantization", "version", "slow"),
    [
        ("awq", "0.28.1", True),
        ("awq", "0.32.0+cpu", False),
        ("awq", None, True),
        (None, "0.28.1", False),
        ("awq_marlin", "0.28.1", False),
    ],
)
def test_a_flag_that_forces_the_slow_kernel(
    quantization: str | None, version: str | None, slow: bool
) -> None:
    problem = awq_flag_problem(model("a", quantization=quantization), version)
    assert (problem is not None) == slow
