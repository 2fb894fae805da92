"""The built-in catalogue of GPU cards: what CUDA reports as their memory.

Labels lie (an "80 GB" card holds 79.18 GiB for CUDA), and vLLM multiplies its fraction with
CUDA's figure. data/cards.json says for each card where its figure comes from.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from gpuserve.units import GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One kind of card. `estimated`: the total was not read from such a card."""

    name: str
    aliases: tuple[str, ...]
    total_bytes: int
    compute_capability: tuple[int, int]
    source: str
    estimated: bool


@cache
def cards() -> tuple[Card, ...]:
    """Return every card of the catalogue."""
    text = files("gpuserve").joinpath("data/cards.json").read_text(encoding="utf-8")
    return tuple(_card(row) for row in json.loads(text)["cards"])


def find_card(name: str) -> Card | None:
    """Return the card of that name or alias; case, "NVIDIA", "GeForce" and dashes do not count."""
    wanted = _form(name)
    for card in cards():
        if wanted in map(_form, (card.name, *card.aliases)):
            return card
    return None


def nearest_cards(name: str, *, most: int = 3) -> list[str]:
    """Return the names of up to *most* cards that *name* may have meant, the nearest first."""
    from difflib import get_close_matches

    by_form = {_form(form): card.name for card in cards() for form in (card.name, *card.aliases)}
    wanted = _form(name)
    close = get_close_matches(wanted, by_form, n=8, cutoff=0.5)
    begin = [form for form in by_form if wanted and form.startswith(wanted)]
    return list(dict.fromkeys(by_form[form] for form in [*begin, *close]))[:most]


def _card(row: dict[str, object]) -> Card:
    major, minor = str(row["compute_capability"]).split(".")
    aliases = row["aliases"]
    assert isinstance(aliases, list)  # noqa: S101 - our own file, held by a test
    return Card(
        name=str(row["name"]),
        aliases=tuple(aliases),
        total_bytes=round(float(str(row["total_gib"])) * GIB),
        compute_capability=(int(major), int(minor)),
        source=str(row["source"]),
        estimated=bool(row.get("estimated", False)),
    )


def _form(name: str) -> str:
    words = name.lower().replace("-", " ").replace("_", " ").split()
    return "".join(word for word in words if word not in {"nvidia", "geforce", "tesla"})
