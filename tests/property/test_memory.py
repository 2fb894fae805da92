"""What must hold for every profile on every machine."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gpuserve.machine.checkpoint import catalogue_facts
from gpuserve.memory.architecture import Architecture, read_architecture
from gpuserve.memory.engine import ModelFacts, resolve
from gpuserve.memory.fraction import charged_bytes, fraction_down, fraction_up
from gpuserve.memory.kv import kv_shape
from gpuserve.memory.report import FitReport
from gpuserve.memory.weights import weights_bytes
from gpuserve.profile.spec import Demand, ModelSpec
from gpuserve.readings import Gpu
from gpuserve.units import GIB
from tests.unit.memory.models import (
    DEEPSEEK,
    MISTRAL,
    QWEN_7B,
    assessed,
    awq,
    card,
    machine,
    model,
    profile,
)

ARCHS = [awq(DEEPSEEK), awq(MISTRAL), QWEN_7B, awq(QWEN_7B)]
# Sliding groups, latent rows, recurrent states, experts, a vision tower.
UNEVEN = [
    catalogue_facts(name, None).architecture
    for name in (
        "openai/gpt-oss-20b",
        "deepseek-ai/DeepSeek-V2-Lite",
        "Qwen/Qwen3.5-27B",
        "google/gemma-3-12b",
        "google/gemma-4-26B-A4B",
        "mistralai/Mixtral-8x7B-v0.1",
    )
]
even_archs = st.sampled_from(ARCHS)
archs = st.sampled_from(ARCHS + [arch for arch in UNEVEN if arch is not None])
totals = st.integers(8 * GIB, 200 * GIB)


@st.composite
def specs(draw: st.DrawFn, name: str) -> ModelSpec:
    how = draw(st.sampled_from(["memory", "fraction", "demand", "cache", "nothing"]))
    length = draw(st.sampled_from([1024, 4096, 16384]))
    spec = model(name, max_model_len=length, max_num_seqs=draw(st.integers(1, 64)))
    if how == "memory":
        return replace(spec, memory_bytes=draw(st.integers(2 * GIB, 80 * GIB)))
    if how == "fraction":
        return replace(spec, gpu_memory_utilization=draw(st.floats(0.05, 0.95)))
    if how == "cache":
        return replace(spec, kv_cache_memory_bytes=draw(st.integers(GIB, 20 * GIB)))
    if how == "demand":
        count = draw(st.integers(1, 16))
        return replace(spec, demand=Demand(context_tokens=length, concurrency=count))
    return spec


@st.composite
def boxes(draw: st.DrawFn) -> tuple[list[ModelSpec], dict[str, Architecture], list[Gpu]]:
    names = ["a", "b", "c"][: draw(st.integers(1, 3))]
    chosen: dict[str, Architecture] = {name: draw(archs) for name in names}
    gpus = []
    for index in range(draw(st.integers(1, 3))):
        total = draw(totals)
        free = draw(st.integers(total // 2, total))
        gpus.append(Gpu(index=index, name="g", total_bytes=total, free_bytes=free))
    return [draw(specs(name)) for name in names], chosen, gpus


def report_of(box: tuple[list[ModelSpec], dict[str, Architecture], list[Gpu]]) -> FitReport:
    models, chosen, gpus = box
    return assessed(profile(*models), dict(chosen), machine(*gpus))


@given(boxes())
def test_what_fits_never_oversubscribes_a_gpu(
    box: tuple[list[ModelSpec], dict[str, Architecture], list[Gpu]],
) -> None:
    report = report_of(box)
    if report.verdict in {"fits", "tight", "risky"}:
        assert all(share.reserved_bytes <= share.gpu.free_bytes for share in report.gpus)
        assert report.shortfalls == ()
    elif report.verdict == "not_now":
        assert all(share.left_bytes >= 0 for share in report.gpus)
        assert report.shortfalls
    else:
        assert report.shortfalls or report.verdict == "invalid"


@given(boxes())
def test_the_order_of_the_models_is_irrelevant(
    box: tuple[list[ModelSpec], dict[str, Architecture], list[Gpu]],
) -> None:
    models, chosen, gpus = box
    forward = report_of((models, chosen, gpus))
    backward = report_of((models[::-1], chosen, gpus))
    assert forward.verdict == backward.verdict
    assert sorted(forward.grants, key=lambda grant: grant.model) == sorted(
        backward.grants, key=lambda grant: grant.model
    )


@given(boxes())
def test_what_is_charged_is_what_the_written_flags_make_vllm_take(
    box: tuple[list[ModelSpec], dict[str, Architecture], list[Gpu]],
) -> None:
    models, _, gpus = box
    report = report_of(box)
    by_index = {gpu.index: gpu for gpu in gpus}
    for grant in report.grants:
        spec = next(spec for spec in models if spec.name == grant.model)
        fraction = grant.gpu_memory_utilization
        assert fraction is not None
        taken = [charged_bytes(by_index[index], fraction) for index in grant.gpus]
        assert grant.budget_bytes == max(taken)
        assert grant.footprint is not None
        inside = grant.footprint.total_bytes - grant.footprint.context_bytes
        if grant.footprint.kv_cache_bytes > 0 and spec.kv_cache_memory_bytes is None:
            assert inside == min(taken)


@given(boxes())
def test_an_engine_that_fits_holds_what_was_promised(
    box: tuple[list[ModelSpec], dict[str, Architecture], list[Gpu]],
) -> None:
    models, _, _ = box
    report = report_of(box)
    for grant in report.grants:
        spec = next(spec for spec in models if spec.name == grant.model)
        if grant.verdict in {"fits", "tight", "risky"}:
            assert grant.footprint is not None
            wanted = spec.demand.concurrency if spec.demand else 1
            assert grant.footprint.max_concurrency >= wanted


@given(archs, st.integers(1024, 16384), st.integers(1, 64), st.integers(0, 8192))
def test_more_context_or_more_requests_never_need_less(
    arch: Architecture, tokens: int, count: int, more: int
) -> None:
    def least(context_tokens: int, concurrency: int) -> int:
        spec = model("a", demand=Demand(context_tokens=context_tokens, concurrency=concurrency))
        return resolve(spec, ModelFacts(architecture=arch)).least_bytes

    assert least(tokens + more, count) >= least(tokens, count)
    assert least(tokens, count + 1) > least(tokens, count)


@given(even_archs, st.integers(1, 32))
def test_wider_layers_never_weigh_less(arch: Architecture, times: int) -> None:
    def weights(of: Architecture) -> int:
        return resolve(model("a"), ModelFacts(architecture=of)).weights

    wider = replace(arch, intermediate=arch.intermediate + 128 * times)
    assert weights(wider) > weights(arch)
    assert weights(replace(arch, layers=arch.layers + 1)) > weights(arch)


@given(totals, st.integers(1, 200 * GIB))
def test_rounding_up_covers_and_rounding_down_never_exceeds(total: int, budget: int) -> None:
    gpu = replace(card(), total_bytes=total)
    assert charged_bytes(gpu, fraction_up(gpu, budget)) >= budget
    assert charged_bytes(gpu, fraction_down(gpu, budget)) <= budget


@given(archs, st.integers(1024, 16384), st.integers(1, 64), st.sampled_from([1, 2, 4]))
def test_a_pool_of_a_promise_holds_the_promise(
    arch: Architecture, tokens: int, count: int, ranks: int
) -> None:
    shape = kv_shape(arch, max_num_batched_tokens=2048, tensor_parallel_size=ranks)
    pool = shape.promise_bytes(tokens, count)
    assert shape.capacity(pool, tokens)[1] >= count
    assert shape.capacity(pool - 2 * shape.block_bytes, tokens)[1] < count


@given(archs, st.floats(0.1, 0.9), st.floats(0.0, 0.09))
def test_a_larger_fraction_never_holds_less(
    arch: Architecture, fraction: float, more: float
) -> None:
    def tokens(of: float) -> int:
        spec = model("a", gpu_memory_utilization=of, max_model_len=4096)
        report = assessed(profile(spec), {"a": arch}, machine(card(200)))
        return max((g.footprint.kv_cache_tokens for g in report.grants if g.footprint), default=0)

    assert tokens(fraction + more) >= tokens(fraction)


@given(archs, st.sampled_from([1, 2, 4]))
def test_more_ranks_never_hold_more_weights_each_and_stages_not_either(
    arch: Architecture, ranks: int
) -> None:
    one = weights_bytes(arch)
    split = weights_bytes(arch, tensor_parallel_size=ranks)
    assert split <= one
    assert split * ranks >= one
    assert weights_bytes(arch, pipeline_parallel_size=ranks) <= one


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
CONFIG_KEYS = st.sampled_from(
    [
        *("model_type", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
        *("head_dim", "hidden_size", "intermediate_size", "vocab_size", "layer_types"),
        *("sliding_window", "num_experts", "moe_intermediate_size", "kv_lora_rank"),
        *("linear_num_value_heads", "rope_scaling", "quantization_config", "vision_config"),
        *("text_config", "architectures", "tie_word_embeddings", "num_kv_shared_layers"),
    ]
)
SOUND = {
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "hidden_size": 64,
    "vocab_size": 100,
}
FAMILIES = st.sampled_from(
    [
        *("llama", "gpt_oss", "deepseek_v3", "gemma4_text", "llama4_text", "qwen3_next"),
        *("granitemoehybrid", "nemotron_h", "seen by nobody"),
    ]
)


@given(FAMILIES, st.dictionaries(CONFIG_KEYS, JSON_VALUES | st.integers(1, 512), max_size=6))
def test_a_config_is_read_or_refused_with_a_sentence(family: str, odd: dict[str, object]) -> None:
    try:
        arch = read_architecture({**SOUND, "model_type": family, **odd})
    except ValueError as error:
        assert str(error)  # noqa: PT017 - most examples are refused
        return
    assert len(arch.all_layers) == arch.layers
    spec = model("a", max_model_len=1024)
    engine = resolve(spec, ModelFacts(architecture=arch))
    assert engine.weights > 0
    assert engine.kv is not None
    assert engine.least_bytes >= engine.weights
