"""A rank's share of a checkpoint's tensors, added up by name, against the computed weights."""

from dataclasses import replace

import pytest

from gpuserve.memory.tensors import TensorSums, add_up
from gpuserve.memory.weights import weights_bytes
from tests.unit.memory.models import MISTRAL, QWEN_7B

Names = list[tuple[str, str, int]]


def llama_tensors(layers: int = 32) -> Names:
    """The tensors of Mistral-7B, as its checkpoint names them, BF16."""
    hidden, inner, keys, vocab = 4096, 14336, 1024, 32000
    found: Names = [("model.embed_tokens.weight", "BF16", vocab * hidden * 2)]
    for n in range(layers):
        at = f"model.layers.{n}."
        for name, count in (
            ("self_attn.q_proj", hidden * hidden),
            ("self_attn.k_proj", hidden * keys),
            ("self_attn.v_proj", hidden * keys),
            ("self_attn.o_proj", hidden * hidden),
            ("mlp.gate_proj", hidden * inner),
            ("mlp.up_proj", hidden * inner),
            ("mlp.down_proj", hidden * inner),
            ("input_layernorm", hidden),
            ("post_attention_layernorm", hidden),
        ):
            found.append((f"{at}{name}.weight", "BF16", count * 2))
    found.append(("model.norm.weight", "BF16", hidden * 2))
    found.append(("lm_head.weight", "BF16", vocab * hidden * 2))
    return found


def sums(tensors: Names, *, tied: bool = False, layers: int = 32) -> TensorSums:
    return add_up(tensors, layers=layers, tied_embeddings=tied, keep_float32=False)


@pytest.mark.parametrize("tp", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("pp", [1, 2, 3])
def test_the_share_of_a_rank_is_the_computed_one(tp: int, pp: int) -> None:
    # With 16 ranks the 8 key and value heads are there twice.
    shared = sums(llama_tensors()).rank_bytes(
        tensor_parallel_size=tp, pipeline_parallel_size=pp, kv_heads=8, vocab=32000
    )
    computed = weights_bytes(MISTRAL, tensor_parallel_size=tp, pipeline_parallel_size=pp)
    assert shared == pytest.approx(computed, abs=2)


def test_tied_embeddings_are_counted_once_and_drafts_not_at_all() -> None:
    whole = sums(llama_tensors())
    embedding = 32000 * 4096 * 2
    assert sums(llama_tensors(), tied=True).total_bytes == whole.total_bytes - embedding
    drafts: Names = [
        ("model.layers.32.self_attn.q_proj.weight", "BF16", 1000),
        ("mtp.layers.0.mlp.up_proj.weight", "BF16", 500),
    ]
    with_drafts = sums(llama_tensors() + drafts)
    assert with_drafts.total_bytes == whole.total_bytes
    assert with_drafts.drafts == 1500


def test_what_ranks_cannot_divide_is_whole_on_each() -> None:
    tensors: Names = [
        ("model.layers.0.mlp.gate.weight", "BF16", 100),  # a router
        ("model.layers.0.self_attn.kv_a_proj_with_mqa.weight", "BF16", 200),
        ("model.layers.0.self_attn.q_a_proj.weight", "BF16", 400),
        ("model.layers.0.self_attn.o_proj.bias", "BF16", 800),
        ("model.layers.0.mlp.experts.3.down_proj.weight", "BF16", 1600),
        ("model.layers.0.mlp.experts.3.gate_proj.weight", "BF16", 1600),
    ]
    (layer,) = sums(tensors, layers=1).layers
    assert (layer.whole, layer.divided) == (1500, 3200)


def test_a_vision_tower_is_no_decoder_layer() -> None:
    tensors: Names = [
        ("visual.blocks.5.attn.qkv.weight", "BF16", 100),
        ("vision_tower.vision_model.encoder.layers.40.mlp.fc1.weight", "BF16", 200),
        ("language_model.model.layers.1.mlp.up_proj.weight", "BF16", 400),
    ]
    found = sums(tensors, layers=2)
    assert (found.tower, found.drafts) == (300, 0)
    assert found.layers[1].divided == 400


def test_a_vocabulary_is_padded_when_it_is_divided() -> None:
    arch = replace(QWEN_7B, vocab=152_001, layers=1)
    one, two = (weights_bytes(arch, tensor_parallel_size=n) for n in (1, 2))
    padding = 2 * (152_064 - 152_001) * arch.hidden * 2
    norms = 3 * arch.hidden * 2
    assert two * 2 == one + padding + norms
