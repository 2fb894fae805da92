"""From what a text shows to numbers for fitting, and from fitted numbers to the router's table."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuserve.routing.lexicon import Lexicon
from gpuserve.routing.model import FORMAT, UNIT, Model, Observed, further, lexicon_of, share_of

LEXICON = Path(__file__).resolve().parent / "router_lexicon"
LEXICON_FILES = ("english.txt", "latin.txt", "scripts.txt")
# A class or a mark counts this much beside one word (1 / √(4 + known)): what is
# regularised less is relied on more. From cross-validation by source.
_CLASS_VALUE = 0.6
_MARK_VALUE = 0.6
# Marks that decide nearly alone although their texts show much else that says the same.
_SURE_MARKS = frozenset(("diff", "stack trace", "shebang", "fence of code"))
_SURE_MARK_VALUE = 1.8
Feature = tuple[str, str]  # (section, entry)


@dataclass(frozen=True, slots=True)
class Space:
    """The features that are fitted, each with its number."""

    numbers: dict[Feature, int]

    def example(self, observed: Observed) -> list[tuple[int, float]]:
        """Return the features of *observed* that are in the space, with their values."""
        numbers = self.numbers
        known = [numbers[f] for f in named(observed) if f in numbers]
        each = share_of(len(known))
        found = [(number, each) for number in known]
        for group, entries in sorted(observed.hits.items()):
            value = _CLASS_VALUE * further(len(entries)) * observed.faint
            found.append((numbers["class", group], value))
        found += [
            (numbers["mark", m], _mark_value(m)) for m in observed.marks if ("mark", m) in numbers
        ]
        return found


def _mark_value(mark: str) -> float:
    return _SURE_MARK_VALUE if mark in _SURE_MARKS else _MARK_VALUE


def named(observed: Observed) -> list[Feature]:
    """Return the words, pieces and pairs in *observed* as features, in a fixed order."""
    words = [("word", name) for name in sorted(observed.names)]
    return words + [("pair", f"{a} {b}") for a, b in sorted(observed.pairs)]


def space_of(
    observed: Sequence[Observed], sources: Sequence[str], lexicon: Lexicon, least: int
) -> Space:
    """Return the space of features in at least *least* texts, of two sources or more."""
    counts: Counter[Feature] = Counter()
    origins: defaultdict[Feature, set[str]] = defaultdict(set)
    marks: Counter[Feature] = Counter()
    for one, source in zip(observed, sources, strict=True):
        for feature in named(one):
            counts[feature] += 1
            if len(origins[feature]) < 2:
                origins[feature].add(source)
        marks.update(("mark", mark) for mark in one.marks)
    kept = [f for f, n in counts.items() if n >= least and len(origins[f]) > 1]
    groups = {*lexicon.words.values(), *lexicon.pairs.values(), *lexicon.stems.values()}
    classes = [("class", group) for group in groups | {*lexicon.parts.values()}]
    ordered = sorted(kept + classes + [m for m, n in marks.items() if n >= least])
    return Space({feature: number for number, feature in enumerate(ordered)})


def heaviest(space: Space, weights: Sequence[float], count: int) -> Space:
    """Return *space* with the *count* words and pairs of the largest weights; the rest stays."""
    open_to = [f for f in space.numbers if f[0] in ("word", "pair")]
    open_to.sort(key=lambda f: (-abs(weights[space.numbers[f]]), f))
    dropped = set(open_to[count:])
    return Space({f: n for n, f in enumerate(f for f in sorted(space.numbers) if f not in dropped)})


def model_of(
    space: Space, weights: Sequence[float], slope: float, offset: float, lexicon: Lexicon
) -> Model:
    """Return the model with *weights* in hundredths of log-odds, by *slope* and *offset*."""
    rounded: dict[str, dict[str, int]] = {name: {} for name in ("word", "pair", "class", "mark")}
    for (section, entry), number in sorted(space.numbers.items()):
        value = _mark_value(entry) if section == "mark" else 1.0
        value = _CLASS_VALUE if section == "class" else value
        weight = round(weights[number] * value * slope * UNIT)
        if weight or section in ("class", "mark"):
            rounded[section][entry] = weight
    pairs = {tuple(entry.split(" ")): weight for entry, weight in rounded["pair"].items()}
    return Model(
        words=rounded["word"],
        pairs={(a, b): weight for (a, b), weight in pairs.items()},
        groups=rounded["class"],
        marks=rounded["mark"],
        bias=round((weights[-1] * slope + offset) * UNIT),
        lexicon=lexicon,
    )


def lexicon_entries() -> list[tuple[str, list[str]]]:
    """Return (class, entries) of the lexicon's files; an underscore stands for a space."""
    found: dict[str, dict[str, None]] = {}
    for name in LEXICON_FILES:
        group = ""
        for line in (LEXICON / name).read_text(encoding="utf-8").splitlines():
            heading = re.fullmatch(r"\[([\w-]+)\]", line)
            if heading:
                group = heading.group(1)
            elif line and not line.startswith("# "):
                entries = (_spaced(word) for word in line.split())
                found.setdefault(group, {}).update(dict.fromkeys(entries))
    return [(group, list(entries)) for group, entries in found.items()]


def read_lexicon() -> Lexicon:
    """Return the lexicon of the files."""
    return lexicon_of(lexicon_entries())


def _spaced(word: str) -> str:
    return word if word.startswith(("__", "$")) else word.replace("_", " ")


def written(
    model: Model, entries: Iterable[tuple[str, Iterable[str]]], about: Sequence[str]
) -> str:
    """Return the table of *model*, with the lines *about* it on top; `parsed` reads it."""
    lines = [f"# {line}" for line in about]
    lines += ["[model]", f"format\t{FORMAT}", f"bias\t{model.bias}"]
    sections = (("class", model.groups), ("mark", model.marks), ("word", model.words))
    for section, weights in sections:
        lines += [f"[{section}]", *(f"{weights[e]}\t{e}" for e in sorted(weights))]
    lines += ["[pair]", *(f"{model.pairs[p]}\t{p[0]} {p[1]}" for p in sorted(model.pairs))]
    lines += ["[lexicon]", *(f"{group}\t{', '.join(words)}" for group, words in entries)]
    return "\n".join(lines) + "\n"
