"""The arithmetic against start logs of vLLM that were published with their model and settings."""

from dataclasses import replace

import pytest

from gpuserve.machine.checkpoint import catalogue_facts
from gpuserve.memory.activation import activation_bytes
from gpuserve.memory.kv import kv_shape
from gpuserve.memory.quantization import Quantization
from gpuserve.memory.weights import weights_bytes
from gpuserve.units import GIB
from tests.unit.memory.models import AWQ

FP8 = Quantization(method="fp8", bits=8)

# Model, "Available KV cache memory" in GiB, max_model_len, the capacity that vLLM logged for it.
# Logs on GitHub, in this order: 2215860382/VedioSifter (twice), KevinHuang8/Augment_QA,
# LukeJYK/AutoScientists, WaroonRagwongsiri/SuperAi-SS6-Level2-Hack4 (twice), faradawn/bench3,
# qweewqq/EnergyLLM.
CAPACITY = [
    ("Qwen/Qwen3-4B", 39.28, 40960, 285_984),
    ("Qwen/Qwen3-30B-A3B", 18.15, 4096, 198_288),
    ("Qwen/Qwen2.5-3B", 14.74, 4096, 429_328),
    ("Qwen/Qwen3-30B-A3B", 13.84, 131072, 151_216),
    ("Qwen/Qwen3-8B", 37.81, 8192, 275_328),
    ("Qwen/Qwen2.5-7B", 66.08, 8192, 1_237_216),
    ("meta-llama/Llama-3.1-8B", 105.97, 1024, 868_080),
    ("meta-llama/Llama-3.1-8B", 19.24, 4096, 157_584),
]
# Model, quantization, tensor parallel size, "Model loading took" in GiB per rank. The logs above,
# baodangtrandev/RAG- (14B), NnamdiOdozi/mlops-assignment (FP8), vllm-project/vllm issues 6509
# (CodeLlama) and 17395 (two ranks).
WEIGHTS = [
    ("Qwen/Qwen3-4B", None, 1, 7.5552),
    ("Qwen/Qwen3-30B-A3B", None, 1, 56.9342),
    ("Qwen/Qwen3-30B-A3B", FP8, 1, 29.08),
    ("Qwen/Qwen2.5-3B", None, 1, 5.79),
    ("Qwen/Qwen3-8B", None, 1, 15.27),
    ("Qwen/Qwen2.5-14B", None, 1, 27.5681),
    ("meta-llama/Llama-3.1-8B", None, 1, 14.9596),
    ("codellama/CodeLlama-34b", AWQ, 1, 17.056),
    ("Qwen/Qwen2.5-7B", None, 2, 7.1217),
]


@pytest.mark.parametrize(("name", "pool_gib", "length", "logged"), CAPACITY)
def test_the_pool_of_a_log_holds_the_tokens_of_the_log(
    name: str, pool_gib: float, length: int, logged: int
) -> None:
    arch = catalogue_facts(name, None).architecture
    assert arch is not None
    tokens, _ = kv_shape(arch, max_num_batched_tokens=2048).capacity(int(pool_gib * GIB), length)
    # The log states the pool in steps of 0.01 GiB.
    assert tokens == pytest.approx(logged, rel=0.01 / pool_gib)


@pytest.mark.parametrize(("name", "quantization", "ranks", "logged_gib"), WEIGHTS)
def test_computed_weights_are_within_the_stated_error_of_the_log(
    name: str, quantization: Quantization | None, ranks: int, logged_gib: float
) -> None:
    arch = catalogue_facts(name, None).architecture
    assert arch is not None
    computed = weights_bytes(replace(arch, quantization=quantization), tensor_parallel_size=ranks)
    assert computed / GIB == pytest.approx(logged_gib, rel=0.02)


def test_the_activation_peak_of_a_log_is_within_the_stated_error() -> None:
    arch = catalogue_facts("Qwen/Qwen3-30B-A3B", None).architecture
    assert arch is not None
    # vLLM 0.26.1 on A100-80GB, 16 sequences, default 2,048 tokens: 0.23 GiB.
    peak = activation_bytes(arch, max_num_batched_tokens=2048, max_num_seqs=16)
    assert peak / GIB == pytest.approx(0.23, abs=0.05)
