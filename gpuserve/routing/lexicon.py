"""Words sorted into classes: names of languages, concepts, hints, and what other prompts speak of.

A class has one weight for all its words, so that a word which no training prompt has still
counts for something. Phrases use up their words: "zip code" says nothing about "code".
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from gpuserve.routing.tokens import Seen, is_other_script, is_spaced, tokens_of

# Classes that vote together only: "write … function", whatever stands between.
MAKE, THING = "make", "thing"
# How many words behind the verb the thing may stand: "write a short and fast function".
REACH = 6
_STEM_CHARS = range(7, 1, -1)
_SURE_CHARS = 4
# Articles and conjunctions that Arabic and Hebrew write together with the word.
PREFIXES = ("ال", "وال", "بال", "و", "ب", "ل", "ה", "ב", "ל", "ו", "ש", "מ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lexicon:
    """Entry to class: `words`, `pairs` of tokens, `stems`, `parts` of text without spaces."""

    words: Mapping[str, str] = field(default_factory=dict)
    pairs: Mapping[tuple[str, str], str] = field(default_factory=dict)
    stems: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    make: frozenset[str] = frozenset()
    thing: frozenset[str] = frozenset()
    beginnings: Mapping[str, tuple[str, ...]] = field(init=False, compare=False)
    # Sets meet sets without a new hash for each element.
    known_words: frozenset[str] = field(init=False, compare=False)
    known_pairs: frozenset[tuple[str, str]] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        # A thousand parts need not be looked for where the pairs that they begin with are not.
        found: dict[str, tuple[str, ...]] = {}
        for part in self.parts:
            found[part[:2]] = (*found.get(part[:2], ()), part)
        object.__setattr__(self, "beginnings", found)
        object.__setattr__(self, "known_words", frozenset(self.words))
        object.__setattr__(self, "known_pairs", frozenset(self.pairs))


def hits_in(
    seen: Seen, lexicon: Lexicon, pairs: AbstractSet[tuple[str, str]]
) -> dict[str, list[str]]:
    """Return the entries of *lexicon* in what was *seen*, by their class.

    *pairs* are the neighbours in it, those that are in the lexicon at least.
    """
    words = seen.words & lexicon.known_words
    hits: dict[str, list[str]] = {}
    for pair in pairs & lexicon.known_pairs:
        hits.setdefault(lexicon.pairs[pair], []).append(f"{pair[0]} {pair[1]}")
        words = words.difference(pair)
    groups = lexicon.words
    for word in words:
        hits.setdefault(groups[word], []).append(word)
    if seen.others:
        for entry, group in _other_scripts(seen, lexicon):
            hits.setdefault(group, []).append(entry)
    return hits


def asks_to_program(seen: Seen, lexicon: Lexicon) -> bool:
    """Whether a verb such as "write" has a thing such as "function" a few words behind it."""
    if lexicon.make.isdisjoint(seen.words) or lexicon.thing.isdisjoint(seen.words):
        return False
    verb_at = -REACH - 1
    for at, token in enumerate(seen.tokens):
        if token in lexicon.make:
            verb_at = at
        elif token in lexicon.thing and at - verb_at <= REACH:
            return True
    return False


def entry_kind(entry: str) -> str:
    """Return how *entry* is looked for: `word`, `pair`, `stem` or `part`."""
    if is_other_script(entry) and not is_spaced(entry):
        return "part"
    if len(tokens_of(entry)) > 1:
        return "pair"
    return "stem" if is_other_script(entry) else "word"


def _other_scripts(seen: Seen, lexicon: Lexicon) -> Iterator[tuple[str, str]]:
    """Yield the entries, and their classes, that runs in other scripts hold."""
    unspaced = False
    for run in seen.others:
        if is_spaced(run):
            stem = _stem(run, lexicon.stems)
            if stem:
                yield stem, lexicon.stems[stem]
        else:
            unspaced = True
    if unspaced:
        beginnings, lowered = lexicon.beginnings, seen.lowered
        for piece in seen.pieces:
            for part in beginnings.get(piece, ()):
                if part in lowered:
                    yield part, lexicon.parts[part]


def _stem(word: str, stems: Mapping[str, str]) -> str | None:
    found = _beginning(word, stems)
    if found is None and "֐" <= word[0] <= "ۿ":
        for prefix in PREFIXES:
            if word.startswith(prefix) and len(word) > len(prefix) + 2:
                found = found or _beginning(word[len(prefix) :], stems)
    return found


def _beginning(word: str, stems: Mapping[str, str]) -> str | None:
    """Return the longest of *stems* that *word* begins with; a short one needs a short word."""
    for size in _STEM_CHARS:
        if word[:size] in stems and (size >= _SURE_CHARS or len(word) <= size + 2):
            return word[:size]
    return None
