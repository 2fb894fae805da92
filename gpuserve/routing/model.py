"""The weights of words, classes and marks, as `scripts/train_router` wrote them, and their sum.

The table is read once, as an import is: `data/router.tsv` is part of the program. Weights are
log-odds in hundredths, whole numbers, so that a sum depends on no order. A class or a mark counts
as it stands; words and pairs share: each counts `share_of` how many are known.
"""

import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from gpuserve.routing.lexicon import MAKE, THING, Lexicon, asks_to_program, entry_kind, hits_in
from gpuserve.routing.tokens import Seen, is_other_script, tokens_of

TABLE = "data/router.tsv"
FORMAT = 1
UNIT = 100  # weights are in hundredths
# Each further word of a class says less than the one before: log2(1 + n), up to six words.
_FURTHER = tuple(math.log2(1 + n) for n in range(7))
# In a long text any word of a class turns up sooner or later.
_TYPICAL_WORDS = 40
# Known words a text is taken to have besides its own, so that one word alone decides nothing.
_MORE_KNOWN = 4
# Log-odds below which a word is not told, where more words than these are known.
_TOLD = 0.25
_FEW = 16
ASKS = "asks to program"


@dataclass(frozen=True, slots=True)
class Weighed:
    """A sum in log-odds, above zero for code, and its terms by the name of what counted."""

    total: float
    terms: dict[str, float]


@dataclass(frozen=True, slots=True)
class Observed:
    """What counts in a text: `names` of words, pieces and pairs, `hits` by class, `marks`.

    `faint` is what a word of a class is worth, 1 in a short text and less in a long one.
    """

    names: set[str]
    pairs: set[tuple[str, str]]
    hits: dict[str, list[str]]
    marks: list[str]
    faint: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The table: `words` (pieces included), `pairs`, `groups` and `marks` to hundredths.

    `bias` are the hundredths of a text in which nothing counts.
    """

    words: Mapping[str, int] = field(default_factory=dict)
    pairs: Mapping[tuple[str, str], int] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)
    marks: Mapping[str, int] = field(default_factory=dict)
    bias: int = 0
    lexicon: Lexicon = field(default_factory=Lexicon)
    known_words: frozenset[str] = field(init=False, compare=False)
    known_pairs: frozenset[tuple[str, str]] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        # Sets meet sets without a new hash for each element.
        object.__setattr__(self, "known_words", frozenset(self.words))
        object.__setattr__(self, "known_pairs", frozenset(self.pairs))

    @property
    def prior(self) -> float:
        """The log-odds of code for a text in which nothing counts."""
        return self.bias / UNIT

    def weigh(self, seen: Seen) -> Weighed:
        """Return what was *seen* adds to the prior, and its terms by name, all in log-odds."""
        observed = observe(seen, self.lexicon)
        own, next_to = observed.names & self.known_words, observed.pairs & self.known_pairs
        weights = list(map(self.words.__getitem__, own))
        pair_weights = list(map(self.pairs.__getitem__, next_to))
        known = len(weights) + len(pair_weights)
        each = share_of(known) / UNIT
        total = (sum(weights) + sum(pair_weights)) * each
        # Only what may be among the heaviest is told: most words of a long text weigh next to
        # nothing, and a name for each would cost more than the sum.
        least = _TOLD / each if known > _FEW else 0.0
        told = zip(own, weights, strict=True)
        terms = {n: w * each for n, w in told if w >= least or w <= -least}
        for pair, weight in zip(next_to, pair_weights, strict=True):
            if weight >= least or weight <= -least:
                terms[f"{pair[0]} {pair[1]}"] = weight * each
        for group, entries in sorted(observed.hits.items()):
            whole = self.groups.get(group, 0) * further(len(entries)) * observed.faint / UNIT
            total += whole
            for entry in entries:
                alone = terms.get(entry, self.words.get(entry, 0) * each)
                terms[entry] = alone + whole / len(entries)
        for mark in observed.marks:
            terms[mark] = self.marks.get(mark, 0) / UNIT
            total += terms[mark]
        return Weighed(total, terms)


def observe(seen: Seen, lexicon: Lexicon) -> Observed:
    """Return what counts in *seen*; training and routing both go by this."""
    hits: dict[str, list[str]] = {}
    for hit in hits_in(seen, lexicon):
        hits.setdefault(hit.group, []).append(hit.entry)
    names = seen.words | seen.pieces
    marks = [*seen.marks, ASKS] if asks_to_program(seen, lexicon) else seen.marks
    faint = 1.0 if len(names) < _TYPICAL_WORDS else math.sqrt(_TYPICAL_WORDS / len(names))
    return Observed(names, seen.pairs, hits, marks, faint)


def share_of(known: int) -> float:
    """Return what each of *known* words and pairs counts of its weight: 1 / √(4 + known)."""
    return 1 / math.sqrt(_MORE_KNOWN + known)


def further(entries: int) -> float:
    """Return how much *entries* of one class count, as a multiple of one."""
    return _FURTHER[min(entries, len(_FURTHER) - 1)]


def parsed(table: str) -> Model:
    """Return the model that *table* holds; ValueError where it is of another format."""
    sections: dict[str, list[list[str]]] = {}
    rows: list[list[str]] = []
    for line in table.split("\n"):
        if line.startswith("[") and line.endswith("]") and "\t" not in line:
            rows = sections.setdefault(line[1:-1], [])
        elif line and not line.startswith("# "):
            rows.append(line.split("\t"))
    settings = {row[0]: row[1] for row in sections["model"]}
    if settings["format"] != str(FORMAT):
        raise ValueError(f"format {settings['format']}, wanted {FORMAT}")
    words = {entry: int(weight) for weight, entry in sections["word"]}
    pairs: dict[tuple[str, str], int] = {}
    for weight, entry in sections["pair"]:
        first, _, second = entry.partition(" ")
        pairs[first, second] = int(weight)
    return Model(
        words=words,
        pairs=pairs,
        groups={entry: int(weight) for weight, entry in sections["class"]},
        marks={entry: int(weight) for weight, entry in sections["mark"]},
        bias=int(settings["bias"]),
        lexicon=lexicon_of((group, entries.split(", ")) for group, entries in sections["lexicon"]),
    )


def lexicon_of(classes: Iterable[tuple[str, Iterable[str]]]) -> Lexicon:
    """Return the lexicon of (class, entries); what stands in two classes counts in the first."""
    kinds: dict[str, dict[str, str]] = {"word": {}, "stem": {}, "part": {}}
    pairs: dict[tuple[str, str], str] = {}
    together: dict[str, set[str]] = {MAKE: set(), THING: set()}
    for group, entries in classes:
        for entry in entries:
            for form in dict.fromkeys((entry, _without_accents(entry))):
                tokens = tokens_of(form)
                kind = entry_kind(form)
                if group in together:
                    together[group].update(tokens[:1])
                elif kind == "pair":
                    if len(tokens) > 2:
                        raise ValueError(f"{form!r} has more than two tokens: {tokens}")
                    pairs.setdefault((tokens[0], tokens[1]), group)
                else:
                    kinds[kind].setdefault(form, group)
    return Lexicon(
        words=kinds["word"],
        pairs=pairs,
        stems=kinds["stem"],
        parts=kinds["part"],
        make=frozenset(together[MAKE]),
        thing=frozenset(together[THING]),
    )


def _without_accents(entry: str) -> str:
    """Return a Latin *entry* as people type it without accents; others as they are."""
    if entry.isascii() or is_other_script(entry):
        return entry
    letters = unicodedata.normalize("NFD", entry.replace("ł", "l").replace("đ", "d"))
    return "".join(c for c in letters if not unicodedata.combining(c))


@cache
def shipped() -> Model:
    """Return the model that comes with gpuserve."""
    return parsed(files("gpuserve").joinpath(TABLE).read_text(encoding="utf-8"))
