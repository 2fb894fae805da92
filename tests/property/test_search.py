"""Placement finds a way wherever there is one: compared with trying every way."""

from itertools import combinations, product

from hypothesis import example, given
from hypothesis import strategies as st

from gpuserve.memory.assess import assess
from gpuserve.memory.engine import ModelFacts, resolve
from gpuserve.memory.fraction import charged_bytes, fraction_up
from gpuserve.profile.spec import ModelSpec
from gpuserve.readings import Gpu
from gpuserve.units import GIB
from tests.unit.memory.models import QWEN_7B, awq, card, machine, model, profile

FACTS = ModelFacts(architecture=awq(QWEN_7B))


def brute_force(specs: list[ModelSpec], gpus: list[Gpu]) -> bool:
    """Whether any assignment of *specs* to *gpus* leaves no card over its total."""
    engines = [resolve(spec, FACTS) for spec in specs]
    ways = [list(combinations(gpus, engine.ranks)) for engine in engines]
    for chosen in product(*ways):
        taken = dict.fromkeys((gpu.index for gpu in gpus), 0)
        for engine, cards in zip(engines, chosen, strict=True):
            budget = (engine.spec.memory_bytes or 0) - engine.context
            # One fraction for all ranks: the card where it is the largest share decides.
            fraction = max(fraction_up(gpu, budget) for gpu in cards)
            for gpu in cards:
                taken[gpu.index] += max(budget, charged_bytes(gpu, fraction)) + engine.context
        if all(taken[gpu.index] <= gpu.total_bytes for gpu in gpus):
            return True
    return False


@given(
    sizes=st.lists(st.integers(8, 40), min_size=1, max_size=5),
    cards=st.lists(st.sampled_from([22.03, 39.49, 47.5]), min_size=1, max_size=3),
)
# Neither the emptiest nor the fullest card first finds 19 + 13 + 8 and 16 + 12 + 12.
@example(sizes=[19, 16, 13, 12, 12, 8], cards=[40.5, 40.5])
def test_engines_of_one_card_are_placed_as_well_as_by_trying_everything(
    sizes: list[int], cards: list[float]
) -> None:
    specs = [
        model(f"m{n}", memory_bytes=size * GIB, max_model_len=2048, max_num_seqs=4)
        for n, size in enumerate(sizes)
    ]
    gpus = [card(total, index=n) for n, total in enumerate(cards)]
    facts = {spec.name: FACTS for spec in specs}
    report = assess(profile(*specs), facts, machine(*gpus), "cuda")
    assert (report.verdict != "does_not_fit") == brute_force(specs, gpus)


@given(
    sizes=st.lists(st.integers(8, 24), min_size=1, max_size=3),
    wide=st.integers(6, 20),
    count=st.integers(2, 4),
)
def test_a_group_of_cards_is_found_beside_engines_of_one_card(
    sizes: list[int], wide: int, count: int
) -> None:
    specs = [
        model("pair", memory_bytes=wide * GIB, tensor_parallel_size=2, max_model_len=2048),
        *(model(f"m{n}", memory_bytes=s * GIB, max_model_len=2048) for n, s in enumerate(sizes)),
    ]
    gpus = [card(24.0, index=n) for n in range(count)]
    facts = {spec.name: FACTS for spec in specs}
    report = assess(profile(*specs), facts, machine(*gpus), "cuda")
    assert (report.verdict != "does_not_fit") == brute_force(specs, gpus)
