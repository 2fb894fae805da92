"""Bits of a weight by the words of quantization_config, and which layers they hold for."""

from typing import Any

import pytest

from gpuserve.memory.quantization import Quantization, read_quantization

GROUPS = {"group_0": {"weights": {"num_bits": 4, "group_size": 128, "symmetric": True}}}
FLOAT4 = {"group_0": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}}}


def read(**stated: Any) -> Quantization:
    found = read_quantization({"quantization_config": stated}, {})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("stated", "bits"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 4 + 20 / 128),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, 4 + 20 / 64),
        ({"quant_method": "gptq", "bits": 8, "group_size": 32, "desc_act": True}, 8 + 24 / 32),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, 4.0),
        ({"quant_method": "fp8"}, 8.0),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8 + 32 / 16384),
        ({"quant_method": "mxfp4"}, 4.25),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 4.5),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, 8.0),
        ({"quant_method": "compressed-tensors", "config_groups": GROUPS}, 4 + 16 / 128),
        ({"quant_method": "compressed-tensors", "config_groups": FLOAT4}, 4.5),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4 + 8 / 64),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8.0),
        ({"quant_method": "gguf"}, 8.5),
    ],
)
def test_bits_of_a_weight(stated: dict[str, Any], bits: float) -> None:
    assert read(**stated).bits_per_weight == pytest.approx(bits)


def test_a_method_that_is_not_known_makes_an_estimate() -> None:
    assert not read(quant_method="brand-new", bits=3).known
    assert read(quant_method="awq").known


def test_parts_that_a_checkpoint_left_alone_are_found() -> None:
    names = [f"model.layers.{n}.self_attn.q_proj" for n in range(40)]
    kept = read(quant_method="compressed-tensors", config_groups=GROUPS, ignore=names)
    assert kept.keeps("attention")
    assert not kept.keeps("experts")
    pattern = read(quant_method="fp8", ignored_layers=["re:.*shared_expert.*", "lm_head"])
    assert pattern.keeps("shared")
    assert not pattern.keeps("mlp")


def test_a_few_spared_layers_and_routers_do_not_stand_for_all() -> None:
    names = [f"model.layers.{n}.self_attn.o_proj" for n in (0, 1, 46, 47)]
    names += [f"model.layers.{n}.mlp.gate" for n in range(48)] + ["lm_head"]
    kept = read(quant_method="compressed-tensors", config_groups=GROUPS, ignore=names)
    assert kept.kept == frozenset()


def test_experts_of_gpt_oss_lie_padded_in_memory() -> None:
    assert read(quant_method="mxfp4").padded(2880, 2880) == (3072, 2944)
    assert read(quant_method="awq").padded(2880, 2880) == (2880, 2880)
