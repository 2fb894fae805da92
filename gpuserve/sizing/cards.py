"""Which cards of a catalogue serve a question, and how many of each it takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpuserve.readings import Machine
from gpuserve.sizing.options import Option, best, options
from gpuserve.sizing.question import Ask, Known


@dataclass(frozen=True, slots=True, kw_only=True)
class CardAnswer:
    """A number of one card that serves the question, and how."""

    card: str
    count: int
    total_bytes: int
    option: Option


def card_answers(
    asks: Sequence[Ask],
    known: Mapping[str, Known],
    boxes: Mapping[str, Sequence[Machine]],
) -> tuple[CardAnswer, ...]:
    """Return answers for each card of *boxes* that serves *asks*, the least memory first.

    *boxes* maps a card to machines with growing numbers of it. A card is answered with the fewest
    that serve what was asked for as it is, and, where fewer serve it with smaller weights or a
    smaller cache, with those too. What is risky is no answer.
    """
    found = []
    for card, machines in boxes.items():
        kept: set[bool] = set()
        for machine in machines:
            tried = [o for o in options(asks, known, machine) if o.verdict in {"fits", "tight"}]
            for whole in (True, False):
                chosen = best([o for o in tried if o.whole == whole and not o.unnamed])
                if chosen is None or kept & {True, whole}:
                    continue
                kept.add(whole)
                found.append(
                    CardAnswer(
                        card=card,
                        count=len(machine.gpus),
                        total_bytes=sum(gpu.total_bytes for gpu in machine.gpus),
                        option=chosen,
                    )
                )
            if True in kept:
                break
    return tuple(sorted(found, key=lambda a: (a.total_bytes, a.count, a.card)))
