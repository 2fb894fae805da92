"""How long requests and rotary tables are, by what a config says of its rope."""

from typing import Any

import pytest

from gpuserve.memory.rope import Lengths, read_lengths

LINEAR = {"rope_type": "linear", "factor": 8.0}
LENGTH = {"max_position_embeddings": 1000}


@pytest.mark.parametrize(
    ("model_type", "rope", "derived", "rotary"),
    [
        ("llama", {}, 1000, 1000),
        ("llama", {"rope_scaling": LINEAR}, 8000, 8000),
        ("llama", {"rope_scaling": {"type": "llama3", "factor": 8.0}}, 1000, 1000),
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, 1000, 1000),
        # Gemma 3 before transformers 5: the windowed layers go by a base of their own, unscaled.
        ("gemma3_text", {"rope_scaling": LINEAR, "rope_local_base_freq": 1e4}, 1000, 9000),
        ("gemma3_text", {"rope_local_base_freq": 1e4}, 1000, 2000),
        # And since: one rope for each kind of layer.
        (
            "gemma3_text",
            {
                "rope_parameters": {
                    "full_attention": LINEAR,
                    "sliding_attention": {"rope_type": "default"},
                }
            },
            1000,
            9000,
        ),
        # Kinds that are alike share one table.
        ("other", {"rope_parameters": {"a": LINEAR, "b": dict(LINEAR)}}, 8000, 8000),
        ("other", {"rope_parameters": {"a": {"rope_type": "default"}, "b": LINEAR}}, 8000, 9000),
    ],
)
def test_lengths(model_type: str, rope: dict[str, Any], derived: int, rotary: int) -> None:
    found = read_lengths(LENGTH | rope, model_type)
    assert found == Lengths(trained=1000, derived=derived, rotary=rotary)


def test_a_length_that_is_not_stated_is_not_known() -> None:
    assert read_lengths({"rope_scaling": LINEAR}, "llama") == Lengths()


@pytest.mark.parametrize("factor", [1e308, 0, -1, "8", True])
def test_a_factor_that_makes_no_sense_is_refused(factor: object) -> None:
    rope = {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": factor}}}
    with pytest.raises(ValueError, match='rope "factor"'):
        read_lengths(LENGTH | rope, "gemma3_text")
