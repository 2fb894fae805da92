"""The cache of models whose layers differ: groups, pages and blocks as vLLM makes them."""

import json
from dataclasses import replace
from typing import Any

import pytest

from gpuserve.machine.checkpoint import catalogue_facts
from gpuserve.memory.architecture import Architecture, read_architecture
from gpuserve.memory.kv import KvShape, kv_shape
from gpuserve.memory.release import Release
from gpuserve.units import GIB
from scripts.accuracy.counts import Counted, load_counts
from tests.unit.memory.models import MISTRAL


def shape_of(name: str, *, release: Release | None = None, **settings: object) -> KvShape:
    arch = catalogue_facts(name, None).architecture
    assert arch is not None
    given: dict[str, Any] = {"max_num_batched_tokens": 2048, "release": release, **settings}
    return kv_shape(arch, **given)


def kinds(shape: KvShape) -> list[tuple[str, int]]:
    return [(group.cache.kind, group.cache.block_tokens) for group in shape.groups]


def test_gpt_oss_has_the_tokens_and_the_concurrency_of_a_log() -> None:
    # vLLM 0.13, 12.94 GiB, 8,192 tokens: 282,624 tokens and 54.44x.
    shape = shape_of("openai/gpt-oss-20b", release=(0, 13))
    tokens, requests = shape.capacity(int(12.94 * GIB), 8192)
    assert tokens == pytest.approx(282_624, rel=0.0004)
    assert requests == pytest.approx(54.44, abs=0.01)
    # Since 0.21 the line says requests x length.
    newer = shape_of("openai/gpt-oss-20b").capacity(int(12.94 * GIB), 8192)
    assert newer[0] == int(newer[1] * 8192)


def test_latent_rows_are_on_every_rank_and_a_model_has_one_group() -> None:
    one = shape_of("deepseek-ai/DeepSeek-V3")
    eight = shape_of("deepseek-ai/DeepSeek-V3", tensor_parallel_size=8)
    assert one.bytes_per_token == eight.bytes_per_token == 61 * 576 * 2
    assert kinds(one) == [("full", 64)]
    indexed = shape_of("deepseek-ai/DeepSeek-V3.2")
    assert indexed.bytes_per_token == 61 * (576 * 2 + 128 + 4)
    packed = shape_of("deepseek-ai/DeepSeek-V3.2", kv_cache_dtype="fp8_ds_mla")
    assert packed.bytes_per_token == 61 * (656 + 132)


def test_releases_before_latent_caches_wrote_out_every_head() -> None:
    # vLLM 0.6.6: 2,889 blocks are 5.64 requests of 8,192 tokens, whatever a block takes.
    old = shape_of("deepseek-ai/DeepSeek-V3", release=(0, 6), tensor_parallel_size=16)
    assert old.capacity(2889 * old.block_bytes, 8192)[1] == pytest.approx(5.64, abs=0.005)
    assert old.bytes_per_token == 61 * 8 * 256 * 2 * 2
    padded = shape_of("deepseek-ai/DeepSeek-V2-Lite", release=(0, 7))
    assert padded.bytes_per_token == 27 * 640 * 2


def test_a_block_of_attention_holds_the_state_of_a_recurrent_layer() -> None:
    # Logs of Qwen3.5-27B: "Setting attention block size to 784 tokens", 1,568 with FP8.
    shape = shape_of("Qwen/Qwen3.5-27B")
    assert kinds(shape) == [("state", 0)] * 3 + [("full", 784)]
    assert shape.block_bytes == 16 * 784 * 4096
    assert kinds(shape_of("Qwen/Qwen3.5-27B", kv_cache_dtype="fp8"))[-1] == ("full", 1568)
    # A state does not grow: one more block of attention is all that 784 more tokens take.
    grown = shape.blocks_per_request(784 * 9) - shape.blocks_per_request(784 * 8)
    assert grown == 1
    without = shape_of("Qwen/Qwen3.5-27B", prefix_caching=False)
    assert shape.blocks_per_request(784) - without.blocks_per_request(784) == 3 * 2


def test_smaller_pages_get_larger_blocks() -> None:
    # Gemma 4: full layers take half of what windowed ones do for a token.
    shape = shape_of("google/gemma-4-26B-A4B")
    assert kinds(shape) == [("sliding", 16)] * 5 + [("full", 32)]
    assert shape.block_bytes == 5 * 16 * 8 * 256 * 2 * 2


def test_a_pattern_that_does_not_come_out_even_is_padded() -> None:
    # Gemma 3 27B: 52 windowed layers and 10 full ones make six groups of ten and one.
    assert len(shape_of("google/gemma-3-27b").groups) == 7
    # 13 and 12 layers make two groups of 13: padding one is less than twice the blocks.
    arch = replace(MISTRAL, layers=25, sliding_layers=12, sliding_window=1024)
    shape = kv_shape(arch, max_num_batched_tokens=2048)
    assert len(shape.groups) == 2
    assert shape.block_bytes == 13 * 16 * 4096


def test_a_chunk_bounds_what_is_held() -> None:
    shape = shape_of("meta-llama/Llama-4-Scout-17B-16E-Instruct")
    assert sorted({kind for kind, _ in kinds(shape)}) == ["chunked", "full"]
    long, longer = (shape.blocks_per_request(n) for n in (1 << 17, 1 << 18))
    assert longer - long == (1 << 17) // 16


def test_ranks_divide_heads_and_repeat_them_where_there_are_too_few() -> None:
    by_ranks = [
        kv_shape(MISTRAL, max_num_batched_tokens=2048, tensor_parallel_size=n).bytes_per_token
        for n in (1, 2, 8, 16)
    ]
    assert by_ranks == [131_072, 65_536, 16_384, 16_384]


def test_the_fullest_stage_of_a_pipeline_decides() -> None:
    # 62 layers in 4 stages: 15, 16, 16, 15.
    arch = replace(MISTRAL, layers=62)
    shape = kv_shape(arch, max_num_batched_tokens=2048, pipeline_parallel_size=4)
    assert shape.block_bytes == 16 * 16 * 4096


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("auto", 256),
        ("fp8", 128),
        ("float32", 512),
        ("nvfp4", 2 * (32 + 4)),
        ("int8_per_token_head", 2 * (64 + 4)),
    ],
)
def test_the_type_of_the_cache_decides_its_bytes(dtype: str, expected: int) -> None:
    arch = replace(MISTRAL, layers=1, kv_heads=1, head_dim=64)
    shape = kv_shape(arch, max_num_batched_tokens=2048, kv_cache_dtype=dtype)
    assert shape.bytes_per_token == expected


def test_a_draft_adds_its_layers_to_the_pool() -> None:
    draft = replace(MISTRAL, layers=1)
    alone, both = (
        kv_shape(MISTRAL, max_num_batched_tokens=2048, draft=given) for given in (None, draft)
    )
    assert both.block_bytes * 32 == alone.block_bytes * 33


def test_an_encoder_caches_nothing() -> None:
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "vocab_size": 30522,
    }
    arch = read_architecture(config)
    shape = kv_shape(arch, max_num_batched_tokens=2048)
    assert shape.promise_bytes(512, 8) == 0
    assert shape.capacity(GIB, 512) == (0, 0.0)


def test_a_window_that_is_said_of_no_layer_of_an_unknown_type_is_not_counted_on() -> None:
    config = {
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "hidden_size": 256,
        "vocab_size": 100,
        "sliding_window": 64,
    }
    assert read_architecture({**config, "model_type": "unseen"}).sliding_layers == 0
    assert read_architecture({**config, "model_type": "mistral"}).sliding_layers == 4


def granite(**changes: object) -> Architecture:
    config = {
        "model_type": "granitemoehybrid",
        "architectures": ["GraniteMoeHybridForCausalLM"],
        "num_hidden_layers": 4,
        "layer_types": ["mamba", "mamba", "attention", "mamba"],
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_size": 256,
        "vocab_size": 512,
        "mamba_n_heads": 8,
        "mamba_d_head": 64,
        "mamba_d_state": 64,
        "mamba_n_groups": 1,
        "mamba_d_conv": 4,
        "shared_intermediate_size": 512,
        "tie_word_embeddings": True,
        **changes,
    }
    return read_architecture(json.loads(json.dumps(config)))


def test_a_state_of_mamba_is_its_convolution_and_its_matrix() -> None:
    shape = kv_shape(granite(), max_num_batched_tokens=512)
    state = (8 * 64 + 2 * 64) * 3 * 2 + 8 * 64 * 64 * 2
    assert shape.groups[0].cache.state_bytes == state
    # 512 B for a token: the block that holds a state is the next multiple of 16 tokens.
    assert kinds(shape)[-1] == ("full", -(-state // (16 * 512)) * 16)


def test_a_list_of_layers_that_misses_some_is_refused() -> None:
    with pytest.raises(ValueError, match='"layer_types" names 1 layers, "num_hidden_layers" is 4'):
        granite(layer_types=["mamba"])


@pytest.mark.parametrize("counted", load_counts(), ids=lambda counted: counted.name)
def test_real_vllm_on_cpu_counted_the_same(counted: Counted) -> None:
    tokens, requests = counted.predicted()
    assert tokens == counted.kv_cache_tokens
    assert requests == pytest.approx(counted.max_concurrency, abs=0.005)
