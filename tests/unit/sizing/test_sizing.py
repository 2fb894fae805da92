"""Questions without a profile are answered with profiles that were assessed."""

from dataclasses import replace

import pytest

from gpuserve.memory.architecture import Architecture
from gpuserve.memory.engine import ModelFacts
from gpuserve.profile.load import load_text
from gpuserve.readings import Machine
from gpuserve.sizing.cards import card_answers
from gpuserve.sizing.options import Option, best, options
from gpuserve.sizing.question import Ask, Known, names_of, profile_of
from gpuserve.sizing.written import profile_text
from tests.unit.memory.models import MISTRAL, QWEN_7B, awq, card, machine

MODEL = "Qwen/Qwen2.5-7B-Instruct"


def known(arch: Architecture, *, packed: bool = True) -> Known:
    small = (f"{MODEL}-AWQ", ModelFacts(architecture=awq(arch))) if packed else None
    return Known(facts=ModelFacts(architecture=arch), packed=small)


def l4s(count: int) -> Machine:
    cards = (replace(card(22.03, index=n), compute_capability=(8, 9)) for n in range(count))
    return machine(*cards)


def asked(context: int, concurrency: int, box: Machine, *, packed: bool = True) -> list[Option]:
    ask = Ask(model=MODEL, context_tokens=context, concurrency=concurrency)
    return list(options([ask], {MODEL: known(QWEN_7B, packed=packed)}, box))


def with_changes(found: list[Option], *changes: str) -> Option:
    return next(o for o in found if [c.split(" (")[0] for c in o.changes] == list(changes))


def test_ten_requests_of_32k_fit_two_l4s_when_the_model_is_split() -> None:
    found = asked(32_768, 10, l4s(2))
    assert found[0].changes == ()
    assert found[0].verdict == "does_not_fit"
    chosen = best(found)
    assert chosen is not None
    assert chosen.changes == ("tensor_parallel_size = 2",)
    grant = chosen.report.grants[0]
    assert grant.footprint is not None
    assert grant.footprint.kv_bytes_per_token == 28_672
    assert chosen.most is not None
    assert chosen.most > 13


def test_one_card_needs_smaller_weights_and_a_smaller_cache_for_it() -> None:
    found = asked(32_768, 10, l4s(1))
    assert with_changes(found, "a 4-bit checkpoint").verdict == "does_not_fit"
    chosen = best(found)
    assert chosen is not None
    assert chosen.changes[0] == 'kv_cache_dtype = "fp8"'
    assert chosen.profile.models[0].quantization == "fp8"


def test_a_checkpoint_that_nobody_can_name_is_told_and_not_written() -> None:
    found = asked(8_192, 2, l4s(1), packed=False)
    assert with_changes(found, "a 4-bit checkpoint").unnamed
    assert not with_changes(asked(8_192, 2, l4s(1)), "a 4-bit checkpoint").unnamed


def test_what_a_card_cannot_do_is_no_option() -> None:
    volta = replace(card(31.74), compute_capability=(7, 5))
    found = asked(4_096, 2, machine(volta))
    assert not any('kv_cache_dtype = "fp8"' in option.changes for option in found)
    assert not any("tensor_parallel_size = 2" in option.changes for option in found)


def test_quantized_models_are_not_quantized_again() -> None:
    ask = Ask(model=MODEL, context_tokens=8_192, concurrency=2)
    found = options([ask], {MODEL: Known(facts=ModelFacts(architecture=awq(QWEN_7B)))}, l4s(1))
    assert {o.changes for o in found} == {(), ('kv_cache_dtype = "fp8"',)}


def test_the_profile_that_is_written_says_the_same_when_it_is_read() -> None:
    for option in asked(8_192, 4, l4s(2)):
        if not option.fits or option.unnamed:
            continue
        read = load_text(profile_text(option), path="/p.toml")
        (spec,), (meant,) = read.models, option.profile.models
        assert spec.gpus == option.report.grants[0].gpus
        for key in ("model", "name", "demand", "max_model_len", "tensor_parallel_size"):
            assert getattr(spec, key) == getattr(meant, key)
        assert (spec.quantization, spec.kv_cache_dtype) == (
            meant.quantization,
            meant.kv_cache_dtype,
        )


def test_several_models_share_a_card_and_code_has_its_route() -> None:
    asks = [
        Ask(model="org/Coder", context_tokens=8_192, concurrency=2),
        Ask(model="org/Chat", context_tokens=4_096, concurrency=3),
    ]
    facts = {ask.model: Known(facts=ModelFacts(architecture=awq(MISTRAL))) for ask in asks}
    found = options(asks, facts, machine(replace(card(), compute_capability=(12, 0))))
    chosen = best(found)
    assert chosen is not None
    assert [m.demand and m.demand.concurrency for m in chosen.profile.models] == [2, 3]
    assert chosen.profile.routing.code == "coder"
    read = load_text(profile_text(chosen), path="/p.toml")
    assert read.routing == chosen.profile.routing


def test_names_are_short_and_differ() -> None:
    assert names_of(["a/Qwen2.5 7B!", "b/qwen2.5-7b", "/models/x/", "auto"]) == [
        "qwen2.5-7b",
        "qwen2.5-7b-2",
        "x",
        "auto-2",
    ]
    plain = profile_of([Ask(model="a/b", context_tokens=1, concurrency=1)])
    assert plain.routing.code is None


def test_cards_are_answered_with_the_fewest_that_serve_as_asked_and_with_less() -> None:
    ask = Ask(model=MODEL, context_tokens=32_768, concurrency=10)
    boxes = {"L4": [l4s(1), l4s(2), l4s(4)], "tiny": [machine(card(4.0))]}
    answers = card_answers([ask], {MODEL: known(QWEN_7B)}, boxes)
    assert [(a.card, a.count, a.option.whole) for a in answers] == [
        ("L4", 1, False),
        ("L4", 2, True),
    ]


@pytest.mark.parametrize("concurrency", [1, 64])
def test_an_answer_never_promises_less_than_was_asked(concurrency: int) -> None:
    for option in asked(4_096, concurrency, l4s(2)):
        if option.verdict in {"fits", "tight"}:
            footprint = option.report.grants[0].footprint
            assert footprint is not None
            assert footprint.max_concurrency >= concurrency
