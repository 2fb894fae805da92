"""Every figure of a plan can be explained, and the explained figures add up."""

from dataclasses import replace

import pytest

from gpuserve.memory.engine import ModelFacts, resolve
from gpuserve.memory.explain import Term, explained
from gpuserve.profile.spec import Demand, ModelSpec
from tests.unit.memory.models import (
    DEEPSEEK,
    assessed,
    awq,
    card,
    grant_of,
    machine,
    model,
    profile,
)

SPEC = model("coder", demand=Demand(context_tokens=16384, concurrency=8))
ARCH = awq(DEEPSEEK)


def terms(spec: ModelSpec = SPEC, facts: ModelFacts | None = None) -> dict[str, Term]:
    facts = facts or ModelFacts(architecture=ARCH, source="config.json")
    report = assessed(
        profile(spec), {spec.name: facts.architecture}, machine(card(), card(index=1))
    )
    found = explained(resolve(spec, facts), facts, grant_of(report, spec.name))
    assert all(term.how and term.source for term in found)
    return {term.name: term for term in found}


def size(found: dict[str, Term], name: str) -> int:
    value = found[name].size_bytes
    assert value is not None
    return value


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_parts_are_the_budget_and_what_is_reserved(ranks: int) -> None:
    found = terms(replace(SPEC, tensor_parallel_size=ranks))
    parts = ("weights", "KV cache", "activation peak", "CUDA graphs", "libraries")
    assert sum(size(found, part) for part in parts) == size(found, "budget")
    outside = size(found, "outside of the budget")
    assert size(found, "budget") + outside == size(found, "reserved")


def test_formulas_carry_their_numbers() -> None:
    found = terms()
    assert size(found, "KV cache of a token") == 253_952
    assert "1,024 blocks of 4,063,232 B for 16,384 tokens" in found["KV cache of a request"].how
    assert found["KV cache promised"].how.startswith("8 requests at once, and 1 block")
    assert "4.15625 bit (awq)" in found["weights"].how
    assert "8.00 x 16,384" in found["KV cache"].how


def test_where_the_weights_are_from_is_said() -> None:
    read = ModelFacts(architecture=ARCH, tensor_bytes=18_008_653_824, source="/m/config.json")
    assert "headers of the safetensors files" in terms(facts=read)["weights"].source
    guessed = ModelFacts(architecture=replace(ARCH, estimated=True))
    assert "estimated" in terms(facts=guessed)["weights"].how


def test_a_model_of_which_nothing_is_known_has_its_size_and_no_more() -> None:
    spec = replace(SPEC, demand=None, memory_bytes=20 << 30)
    found = terms(spec, ModelFacts(architecture=None))
    assert list(found) == ["size"]
