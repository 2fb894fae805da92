"""The catalogue of cards is whole, and says where each figure is from."""

from gpuserve.machine.cards import cards, find_card, nearest_cards
from gpuserve.units import GIB


def test_every_card_has_a_source_and_sane_figures() -> None:
    for card in cards():
        assert card.source
        assert 4 * GIB < card.total_bytes < 400 * GIB
        assert (7, 0) <= card.compute_capability < (13, 0)


def test_no_name_means_two_cards() -> None:
    for card in cards():
        for name in (card.name, *card.aliases):
            assert find_card(name) is card


def test_the_flagships_card_has_cudas_total() -> None:
    card = find_card("RTX PRO 6000 Blackwell 96GB")
    assert card is not None
    assert card.total_bytes == round(94.97 * GIB)


def test_an_a100_without_its_size_counts_as_one_that_is_named() -> None:
    card = find_card("A100")
    assert card is not None
    assert "80GB" in card.name


def test_the_nearest_cards_come_first() -> None:
    assert nearest_cards("A100")[:2] == ["NVIDIA A100 40GB", "NVIDIA A100 80GB"]
    assert "NVIDIA L40S" in nearest_cards("L40X")
    assert nearest_cards("completely different") == []
