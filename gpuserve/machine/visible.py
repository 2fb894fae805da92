"""Which GPUs an operator leaves to us: CUDA_VISIBLE_DEVICES, read as CUDA reads it.

Entries are indices or UUIDs, of which the beginning is enough; the first that names no GPU ends
the list; an empty list hides every GPU (CUDA programming guide, "CUDA Environment Variables").
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
_BUS_ORDER = "PCI_BUS_ID"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What tells a GPU from the others of its machine. `index` is in PCI bus order."""

    index: int
    name: str
    uuid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Visibility:
    """The indices that are ours and those that are hidden, both in PCI bus order.

    `doubts` are sentences about a list that names GPUs that are not there, or not for sure
    the ones that are meant.
    """

    visible: tuple[int, ...]
    hidden: tuple[int, ...] = ()
    doubts: tuple[str, ...] = ()


def visibility(cards: Sequence[Card], environment: Mapping[str, str]) -> Visibility:
    """Return which of *cards* (all of the machine) *environment* leaves visible.

    Indices count in CUDA's order, fastest first, unless CUDA_DEVICE_ORDER says otherwise.
    Where all cards are alike that is PCI bus order, as NVIDIA's tools list them; where they
    are not it cannot be known, so they are taken for PCI indices, with a doubt.
    """
    listed = environment.get(VISIBLE)
    if listed is None:
        return Visibility(visible=tuple(card.index for card in cards))
    chosen: set[int] = set()
    doubts = []
    by_index = False
    for entry in (text.strip() for text in listed.split(",") if listed.strip()):
        card = _named(entry, cards)
        if card is None:
            if entry not in {"-1", "NoDevFiles"}:  # the usual ways to write "none"
                doubts.append(
                    f'{VISIBLE}="{listed}": "{entry}" names no GPU of this machine; CUDA '
                    "ignores it and what follows it"
                )
            break
        by_index = by_index or not entry.startswith("GPU-")
        chosen.add(card.index)
    alike = len({card.name for card in cards}) < 2
    if by_index and not alike and environment.get(ORDER) != _BUS_ORDER:
        doubts.append(
            f'{VISIBLE}="{listed}" counts GPUs in an order that {ORDER} does not state, and the '
            "GPUs of this machine differ; they are taken for PCI bus order, as `nvidia-smi` "
            "lists them"
        )
    return Visibility(
        visible=tuple(card.index for card in cards if card.index in chosen),
        hidden=tuple(card.index for card in cards if card.index not in chosen),
        doubts=tuple(doubts),
    )


def _named(entry: str, cards: Sequence[Card]) -> Card | None:
    if re.fullmatch(r"[0-9]+", entry):
        return next((card for card in cards if card.index == int(entry)), None)
    found = [card for card in cards if entry.startswith("GPU-") and card.uuid.startswith(entry)]
    return found[0] if len(found) == 1 else None
