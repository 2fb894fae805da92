"""No config.json, however odd, ends in a traceback, or in a plain "fits" by a guess."""

import json
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpuserve.errors import Problem
from gpuserve.machine.checkpoint import CheckpointError, read_facts
from gpuserve.memory.architecture import read_architecture
from gpuserve.memory.validity import validity_problems
from gpuserve.profile.spec import ModelSpec
from tests.unit.memory.models import assessed, card, machine, profile

# A family where nothing follows but what a config states, and one of each uncommon kind.
QWEN3: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 256,
    "head_dim": 64,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 2048,
    "torch_dtype": "bfloat16",
    "layer_types": ["full_attention"] * 4,
    "tie_word_embeddings": False,
    "rope_scaling": None,
}
MIXTURE = QWEN3 | {
    "architectures": ["GptOssForCausalLM"],
    "model_type": "gpt_oss",
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
HYBRID = QWEN3 | {
    "architectures": ["Qwen3NextForCausalLM"],
    "model_type": "qwen3_next",
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 64,
    "linear_num_value_heads": 4,
    "linear_value_head_dim": 64,
}
LATENT = QWEN3 | {
    "architectures": ["DeepseekV2ForCausalLM"],
    "model_type": "deepseek_v2",
    "kv_lora_rank": 64,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
}
CONFIGS = [QWEN3, MIXTURE, HYBRID, LATENT]
SIZES = [
    "hidden_size",
    "head_dim",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "max_position_embeddings",
    "num_local_experts",
    "num_experts_per_tok",
    "linear_num_value_heads",
    "kv_lora_rank",
]
no_size = st.one_of(
    st.integers(max_value=-1),
    st.integers(min_value=1 << 41),
    st.floats(),
    st.text(max_size=8),
    st.booleans(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
no_json_size = no_size | st.just(0) | st.none()


def problems_of(config: dict[str, Any]) -> tuple[Problem, ...]:
    """What `check` would say of *config*; raises CheckpointError where it refuses the file."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        spec = ModelSpec(index=0, name="m", model=folder, max_model_len=1024)
        facts = read_facts(spec)
        assert facts.architecture is not None
        # The whole arithmetic runs, whatever the numbers are.
        assessed(profile(spec), {"m": facts.architecture}, machine(card(22)))
        return validity_problems(profile(spec), {"m": facts}, None)


def refusal_of(config: dict[str, Any]) -> str:
    with pytest.raises(CheckpointError) as refused:
        problems_of(config)
    return str(refused.value)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config["model_type"])
def test_what_is_whole_is_said_nothing_of(config: dict[str, Any]) -> None:
    assert problems_of(config) == ()


@given(config=st.sampled_from(CONFIGS), key=st.sampled_from(SIZES), odd=no_size)
@example(config=QWEN3, key="hidden_size", odd="256")
@example(config=MIXTURE, key="num_local_experts", odd=-1)
def test_a_size_that_is_none_is_refused_by_its_name(
    config: dict[str, Any], key: str, odd: object
) -> None:
    if key not in config:
        return
    said = refusal_of(config | {key: odd})
    assert f'"{key}"' in said
    assert "config.json" in said


@given(config=st.sampled_from(CONFIGS), left_out=st.data())
def test_a_key_that_is_left_out_is_refused_or_told(
    config: dict[str, Any], left_out: st.DataObject
) -> None:
    needed = [key for key in SIZES if key in config and key != "max_position_embeddings"]
    # Without these it is another kind of model, which vLLM would take it for as well.
    needed = [key for key in needed if key != "num_local_experts"]
    if "kv_lora_rank" in config:
        needed = [key for key in needed if key not in {"head_dim", "num_key_value_heads"}]
    key = left_out.draw(st.sampled_from([*needed, "model_type", "architectures"]))
    rest = {name: value for name, value in config.items() if name != key}
    try:
        said = " ".join(problem.message for problem in problems_of(rest))
    except CheckpointError as refused:
        said = str(refused)
    assert f'"{key}"' in said
    assert "config.json" in said


@given(config=st.sampled_from(CONFIGS), heads=st.integers(1, 10_000), kv=st.integers(1, 10_000))
def test_heads_that_do_not_divide_are_refused(config: dict[str, Any], heads: int, kv: int) -> None:
    changed = config | {"num_attention_heads": heads, "num_key_value_heads": kv}
    if heads % kv == 0 or "kv_lora_rank" in config:
        assert problems_of(changed) == ()
    else:
        assert '"num_key_value_heads"' in refusal_of(changed)


@given(
    config=st.sampled_from(CONFIGS),
    kinds=st.lists(
        st.sampled_from(["full_attention", "sliding_attention", "zzz", "", 3, None]), max_size=6
    ),
)
@example(config=QWEN3, kinds=["full_attention"])
@example(config=HYBRID, kinds=["full_attention", "zzz"] * 2)
def test_kinds_of_layers_are_one_known_word_for_each(
    config: dict[str, Any], kinds: list[object]
) -> None:
    changed = config | {"layer_types": kinds}
    known = all(kind in ("full_attention", "sliding_attention") for kind in kinds)
    if not kinds or (len(kinds) == 4 and known):
        assert problems_of(changed) == ()
    else:
        assert '"layer_types' in refusal_of(changed)


@given(config=st.sampled_from(CONFIGS), dtype=st.text(max_size=12) | st.integers() | st.booleans())
@example(config=QWEN3, dtype="zzz")
@pytest.mark.parametrize("key", ["torch_dtype", "dtype"])
def test_a_dtype_is_one_of_torchs(config: dict[str, Any], key: str, dtype: object) -> None:
    said = refusal_of(config | {key: dtype})
    assert f'"{key}"' in said
    assert f"{dtype!r:.60}" in said


@given(key=st.sampled_from(sorted(set(QWEN3) | set(MIXTURE) | set(HYBRID))), odd=no_json_size)
def test_nothing_but_a_sentence_comes_of_any_value(key: str, odd: object) -> None:
    for config in CONFIGS:
        with suppress(ValueError):
            arch = read_architecture(config | {key: odd})
            assert arch.layers > 0
            assert arch.kv_heads > 0


def test_an_unknown_family_is_told_and_its_layers_are_counted_as_full() -> None:
    strange = QWEN3 | {"model_type": "zzz", "layer_types": ["sliding_attention", "zzz"]}
    said = " ".join(problem.message for problem in problems_of(strange))
    assert '"model_type" is "zzz"' in said
    assert '"layer_types" names 2 layers, "num_hidden_layers" is 4' in said
    assert "'zzz', which is counted as full attention" in said
    assert all(problem.warning for problem in problems_of(strange))
