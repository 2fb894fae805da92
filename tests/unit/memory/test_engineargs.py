"""What extra arguments change: images, adapters, drafts, pooling; and what they cost."""

import json
from dataclasses import replace
from typing import Any

import pytest

from gpuserve.machine.checkpoint import catalogue_facts
from gpuserve.memory.architecture import Architecture
from gpuserve.memory.engine import Engine, ModelFacts, resolve
from gpuserve.memory.engineargs import EngineArgs, Lora, Speculation, read_engine_args
from gpuserve.units import GIB, MIB
from tests.unit.memory.models import (
    MISTRAL,
    QWEN_7B,
    assessed,
    card,
    machine,
    model,
    profile,
)


def engine(
    arch: Architecture, *arguments: str, draft: ModelFacts | None = None, **settings: Any
) -> Engine:
    spec = model("a", **{"max_model_len": 4096, "extra_args": arguments, **settings})
    return resolve(spec, ModelFacts(architecture=arch, draft=draft))


def known(name: str) -> Architecture:
    arch = catalogue_facts(name, None).architecture
    assert arch is not None
    return arch


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), EngineArgs()),
        (("--seed", "1"), EngineArgs()),
        (("--enable-lora",), EngineArgs(lora=Lora(adapters=1, rank=16))),
        (
            ("--enable-lora", "--max-loras=4", "--max-lora-rank", "64"),
            EngineArgs(lora=Lora(adapters=4, rank=64)),
        ),
        (("--max-loras", "4"), EngineArgs()),
        (
            ("--limit-mm-per-prompt", '{"image": 0, "video": 0}'),
            EngineArgs(images=False, videos=False),
        ),
        (("--limit-mm-per-prompt", '{"video": 0}'), EngineArgs(videos=False)),
        (("--limit-mm-per-prompt", '{"image": 0}'), EngineArgs()),
        (("--limit-mm-per-prompt", "not JSON"), EngineArgs()),
        (("--runner", "pooling"), EngineArgs(pooling=True)),
        (("--no-async-scheduling",), EngineArgs(asynchronous=False)),
        (
            ("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 3}'),
            EngineArgs(speculation=Speculation(tokens=3)),
        ),
        (
            ("--speculative-config", '{"method": "mtp", "num_speculative_tokens": 1}'),
            EngineArgs(speculation=Speculation(tokens=1, own_layers=True)),
        ),
        (
            (
                "--speculative-config.model=org/draft",
                "--speculative-config.num_speculative_tokens=5",
            ),
            EngineArgs(speculation=Speculation(tokens=5, model="org/draft")),
        ),
    ],
)
def test_arguments_say_what_memory_depends_on(
    arguments: tuple[str, ...], expected: EngineArgs
) -> None:
    assert read_engine_args(arguments) == expected


def test_adapters_cost_their_rows_and_columns() -> None:
    plain = engine(MISTRAL)
    with_adapters = engine(MISTRAL, "--enable-lora", "--max-loras", "2", "--max-lora-rank", "16")
    # A has hidden (or inner) columns and B as many rows as the projection has outputs.
    attention = (3 * 4096 + 4096 + 2 * 1024) + (4096 + 4096)
    mlp = 3 * 4096 + 3 * 14336
    assert with_adapters.weights - plain.weights == 32 * (attention + mlp) * 16 * 2 * 2


def test_a_draft_brings_its_weights_and_its_layers_of_cache() -> None:
    asked = json.dumps({"model": "org/draft", "num_speculative_tokens": 3})
    small = replace(MISTRAL, layers=1)
    facts = ModelFacts(architecture=small)
    plain, drafting = engine(MISTRAL), engine(MISTRAL, "-sc", asked, draft=facts)
    assert drafting.weights > plain.weights + 400 * 1024 * 1024
    assert plain.kv is not None
    assert drafting.kv is not None
    assert drafting.kv.block_bytes * 32 == plain.kv.block_bytes * 33
    # A draft whose shape is not known makes the whole an estimate.
    unknown = engine(MISTRAL, "-sc", asked, draft=ModelFacts(architecture=None))
    assert unknown.estimated
    assert unknown.margin_bytes > plain.margin_bytes


def test_drafting_layers_of_the_checkpoint_are_loaded_only_when_asked_for() -> None:
    deepseek = known("deepseek-ai/DeepSeek-V3")
    plain = engine(deepseek, tensor_parallel_size=8)
    mtp = json.dumps({"method": "mtp", "num_speculative_tokens": 1})
    drafting = engine(deepseek, "--speculative-config", mtp, tensor_parallel_size=8)
    # One layer of 256 experts, 11.5 GB in FP8, over eight ranks, and a projection on each.
    expected = 11.5e9 / 8 + 2 * 7168 * 7168 * 2
    assert drafting.weights - plain.weights == pytest.approx(expected, rel=0.03)


def test_a_video_as_long_as_a_request_is_profiled() -> None:
    # vLLM 0.23, Qwen2.5-VL-7B at 128,000 tokens and 0.22 of 79.25 GiB: -14.28 GiB of cache.
    seeing = known("Qwen/Qwen2.5-VL-7B-Instruct")
    settings: dict[str, Any] = {
        "max_model_len": 128_000,
        "max_num_seqs": 256,
        "max_num_batched_tokens": 2048,
    }
    taken = engine(seeing, **settings).fixed_bytes / GIB
    assert 0.22 * 79.25 - taken == pytest.approx(-14.28, abs=0.6)
    without = engine(seeing, "--limit-mm-per-prompt", '{"video": 0}', **settings)
    assert taken - without.fixed_bytes / GIB > 10


def test_what_videos_cost_is_said_with_the_argument_that_frees_it() -> None:
    seeing = known("Qwen/Qwen2.5-VL-7B-Instruct")
    spec = model("a", max_model_len=128_000)
    report = assessed(profile(spec), {"a": seeing}, machine(card()))
    (warning,) = [p for p in report.problems if "video" in p.message]
    assert warning.warning
    assert warning.hint is not None
    assert '{"video": 0}' in warning.hint
    told = replace(spec, extra_args=("--limit-mm-per-prompt", '{"video": 0}'))
    quiet = assessed(profile(told), {"a": seeing}, machine(card()))
    assert not [p for p in quiet.problems if "video" in p.message]


def test_without_images_no_tower_is_profiled() -> None:
    seeing = known("Qwen/Qwen2.5-VL-7B-Instruct")
    with_images = engine(seeing)
    none = engine(seeing, "--limit-mm-per-prompt", '{"image": 0, "video": 0}')
    assert with_images.activation - none.activation > GIB // 2
    assert with_images.weights == none.weights


def test_a_model_that_pools_loads_no_output_head() -> None:
    head = QWEN_7B.vocab * QWEN_7B.hidden * 2
    pooling = engine(QWEN_7B, "--runner", "pooling")
    rounded = -(-head // (2 * MIB)) * 2 * MIB  # by PyTorch's allocator
    assert engine(QWEN_7B).weights - pooling.weights == rounded
    assert pooling.max_num_batched_tokens == 4096
