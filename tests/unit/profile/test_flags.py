"""Flags that gpuserve writes itself may not stand in extra_args."""

import pytest

from gpuserve.profile.faults import KEYS
from gpuserve.profile.flags import REFUSED, refused_flags


@pytest.mark.parametrize(
    "word",
    ["--port", "--port=80", "--max_model_len", "--max-model-len=16k", "-tp", "--no-enforce-eager"],
)
def test_a_flag_is_recognised_however_it_is_written(word: str) -> None:
    ((index, _, hint),) = refused_flags(["--seed", "1", word])
    assert index == 2
    assert hint


@pytest.mark.parametrize(
    "words", [["--seed", "1"], ["port"], ["--portable"], ["--speculative-config", '{"a": 1}'], [""]]
)
def test_other_words_pass(words: list[str]) -> None:
    assert refused_flags(words) == []


def test_every_key_that_a_hint_names_exists() -> None:
    for hint in REFUSED.values():
        if hint.startswith("write `"):
            assert hint.split("`")[1] in KEYS["model"]


def test_every_setting_of_an_engine_is_refused_as_a_flag() -> None:
    settings = KEYS["engine"] & KEYS["model"]
    ours = {name for name in settings if name.endswith("_s")} | {
        "vllm",
        "env",
        "extra_args",
        "restart_limit",
        "hourly_restart_limit",
        "memory",  # words of ours: vLLM has no such flags
        "demand",
    }
    assert {"--" + name.replace("_", "-") for name in settings - ours} <= set(REFUSED)
