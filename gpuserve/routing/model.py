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
FURTHER = tuple(math.log2(1 + n) for n in range(7))
# In a long text any word of a class turns up sooner or later.
TYPICAL_WORDS = 40
# Known words a text is taken to have besides its own, so that one word alone decides nothing.
MORE_KNOWN = 4
# How many words and pairs of a text are told by name.
TOLD = 6
ASKS = "asks to program"


@dataclass(frozen=True, slots=True)
class Weighed:
    """A sum in log-odds, above zero for code, and the heaviest of its terms by their names."""

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
    # By weight, the heaviest first: where a word or a pair stands, what it weighs, what it is.
    # A name for each word of a long text would cost more than the sum.
    _ranks: Mapping[str | tuple[str, str], int] = field(init=False, compare=False)
    _weights: tuple[int, ...] = field(init=False, compare=False)
    _names: tuple[str, ...] = field(init=False, compare=False)
    # Sets meet sets without a new hash for each element.
    _known_words: frozenset[str] = field(init=False, compare=False)
    _known_pairs: frozenset[tuple[str, str]] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        entries: list[tuple[str | tuple[str, str], int]] = [
            *self.words.items(),
            *self.pairs.items(),
        ]
        entries.sort(key=lambda entry: (-abs(entry[1]), str(entry[0])))
        made = {
            "_ranks": {name: rank for rank, (name, _) in enumerate(entries)},
            "_weights": tuple(weight for _, weight in entries),
            "_names": tuple(_name(entry) for entry, _ in entries),
            "_known_words": frozenset(self.words),
            "_known_pairs": frozenset((*self.pairs, *self.lexicon.pairs)),
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)

    def rank_of(self, entry: str | tuple[str, str]) -> int:
        """Return how many words and pairs weigh more than *entry*; -1 where it weighs nothing."""
        return self._ranks.get(entry, -1)

    @property
    def lexicon_groups(self) -> frozenset[str]:
        """The classes that the lexicon's entries are in."""
        lexicon = self.lexicon
        return frozenset(
            group
            for entries in (lexicon.words, lexicon.pairs, lexicon.stems, lexicon.parts)
            for group in entries.values()
        )

    @property
    def prior(self) -> float:
        """The log-odds of code for a text in which nothing counts."""
        return self.bias / UNIT

    def weigh(self, seen: Seen) -> Weighed:
        """Return what was *seen* adds to the prior, and the heaviest terms, all in log-odds."""
        ranks_of = self._ranks
        met = self._known_pairs.intersection(seen.neighbours())
        names = seen.words | seen.pieces if seen.pieces else seen.words
        ranks = [ranks_of[name] for name in self._known_words & names]
        ranks += [ranks_of[pair] for pair in met if pair in ranks_of]
        each = share_of(len(ranks)) / UNIT
        total = sum(map(self._weights.__getitem__, ranks)) * each
        ranks.sort()
        terms = {self._names[rank]: self._weights[rank] * each for rank in ranks[:TOLD]}
        faint = _faint(len(names)) / UNIT
        for group, entries in sorted(hits_in(seen, self.lexicon, met).items()):
            whole = self.groups.get(group, 0) * further(len(entries)) * faint
            total += whole
            for entry in entries:
                own = terms.get(entry) or self.words.get(entry, 0) * each
                terms[entry] = own + whole / len(entries)
        for mark in _marks(seen, self.lexicon):
            terms[mark] = self.marks.get(mark, 0) / UNIT
            total += terms[mark]
        return Weighed(total, terms)


def observe(seen: Seen, lexicon: Lexicon) -> Observed:
    """Return what counts in *seen*, for training; `weigh` counts the same without naming it all."""
    pairs = set(seen.neighbours())
    hits = hits_in(seen, lexicon, pairs)
    names = seen.words | seen.pieces
    return Observed(names, pairs, hits, _marks(seen, lexicon), _faint(len(names)))


def _marks(seen: Seen, lexicon: Lexicon) -> list[str]:
    return [*seen.marks, ASKS] if asks_to_program(seen, lexicon) else seen.marks


def _faint(names: int) -> float:
    return 1.0 if names < TYPICAL_WORDS else math.sqrt(TYPICAL_WORDS / names)


def _name(entry: str | tuple[str, str]) -> str:
    return entry if isinstance(entry, str) else f"{entry[0]} {entry[1]}"


def share_of(known: int) -> float:
    """Return what each of *known* words and pairs counts of its weight: 1 / √(4 + known)."""
    return 1 / math.sqrt(MORE_KNOWN + known)


def further(entries: int) -> float:
    """Return how much *entries* of one class count, as a multiple of one."""
    return FURTHER[min(entries, len(FURTHER) - 1)]


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
