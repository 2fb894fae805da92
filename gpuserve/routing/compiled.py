"""The compiled part of the classifier, and what it must know of the others.

It is optional: an installation without a C compiler goes without, and each verdict is the same to
the last bit.
"""

from collections.abc import Callable
from functools import cache
from itertools import chain
from typing import Any

from gpuserve.routing import agents, marks, mix
from gpuserve.routing.lexicon import PREFIXES, REACH
from gpuserve.routing.model import (
    ASKS,
    FURTHER,
    MORE_KNOWN,
    TOLD,
    TYPICAL_WORDS,
    UNIT,
    Model,
    shipped,
)
from gpuserve.routing.tokens import FIRST, LATIN_STEM_CHARS, STEM_CHARS

# Model, stream, wanted tokens, bytes of text; the last turn, those before, what was replied, the
# system prompt.
PlainBody = tuple[str, bool, int, int, str, tuple[str, ...], str, str]


def _unread(raw: bytes, /) -> PlainBody | None:
    """Return None: every body is parsed."""
    del raw
    return None


# What a plain chat request holds; None for a body that must be parsed.
plain_body: Callable[[bytes], PlainBody | None] = _unread
try:
    from gpuserve.routing import _compiled
except ImportError:
    COMPILED = False
else:
    COMPILED = True
    plain_body = _compiled.plain_body

# What a word is, for the scan, besides its weight.
_MAKE, _THING, _SIGN, _FIRST, _SECOND, _WORD, _STEM, _PART = (1 << bit for bit in range(8))
_NOWHERE = -1


@cache
def shipped_scan() -> "_compiled.Scan | None":
    """Return the model that comes with gpuserve, compiled; None where there is no compiled part."""
    return scan_of(shipped()) if COMPILED else None


def scan_of(model: Model) -> "_compiled.Scan":
    """Return *model* compiled; ValueError where the compiled part has no room for it."""
    return _compiled.Scan(**table_of(model))


def table_of(model: Model) -> dict[str, Any]:
    """Return what a Scan is made of: *model*, and what the modules beside this one know.

    Places are those in `words`, classes are numbered in the order of their names.
    """
    lexicon, groups = model.lexicon, sorted({*model.groups, *model.lexicon_groups})
    group_at = {group: at for at, group in enumerate(groups)}
    pairs = sorted({*model.pairs, *lexicon.pairs})
    firsts, seconds = {first for first, _ in pairs}, {second for _, second in pairs}
    begins = sorted(lexicon.beginnings)
    classes = {**lexicon.parts, **lexicon.stems, **lexicon.words}
    if len(classes) < len(lexicon.parts) + len(lexicon.stems) + len(lexicon.words):
        raise ValueError("an entry of the lexicon is of two kinds")
    sets = (lexicon.make, lexicon.thing, agents.SIGNS, firsts, seconds)
    words = sorted({FIRST, *chain(model.words, classes, begins, *sets)})
    word_at = {word: at for at, word in enumerate(words)}
    flags = tuple(
        zip(
            (*sets, lexicon.words, lexicon.stems, lexicon.parts),
            (_MAKE, _THING, _SIGN, _FIRST, _SECOND, _WORD, _STEM, _PART),
            strict=True,
        )
    )
    names = list(dict.fromkeys((*(name for *_, name in _FIXED), *marks.OTHERS, ASKS)))
    return {
        "words": [
            (
                word,
                model.rank_of(word),
                model.words.get(word, 0),
                group_at.get(classes.get(word, ""), _NOWHERE),
                sum(flag for which, flag in flags if word in which),
            )
            for word in words
        ],
        "pairs": [
            (
                word_at[pair[0]],
                word_at[pair[1]],
                f"{pair[0]} {pair[1]}",
                model.rank_of(pair),
                model.pairs.get(pair, 0),
                group_at.get(lexicon.pairs.get(pair, ""), _NOWHERE),
            )
            for pair in pairs
        ],
        "groups": [model.groups.get(group, 0) for group in groups],
        "further": list(FURTHER),
        "marks": [(name, model.marks.get(name, 0) / UNIT) for name in names],
        "other_marks": [names.index(name) for name in (*marks.OTHERS, ASKS)],
        "fixed": [
            (sign, text, names.index(name), lines, capitals)
            for sign, text, lines, capitals, name in _FIXED
        ],
        "prose": sorted(marks.PROSE_FENCES),
        "parts": [
            (word_at[begin], word_at[part])
            for begin in begins
            for part in lexicon.beginnings[begin]
        ],
        "prefixes": list(PREFIXES),
        "signs": [
            *(
                (word_at[word], term, weight)
                for word in sorted(agents.SIGNS)
                for term, weight in agents.signs_of(word)
            ),
            *((_NOWHERE, text, weight) for text, weight in agents.OTHER_SCRIPTS),
        ],
        "whole": (
            word_at[FIRST],
            TOLD,
            TYPICAL_WORDS,
            MORE_KNOWN,
            REACH,
            STEM_CHARS,
            LATIN_STEM_CHARS,
            mix.SHOWN,
        ),
        "real": (
            UNIT,
            model.prior,
            *mix.SAYS_LITTLE,
            mix.CONTEXT_CAP,
            mix.REPLY_WEIGHT,
            agents.TOOL,
            agents.TOOL,
            agents.MOST,
            mix.LEAST_SHOWN,
        ),
    }


# A sign that must be there, the string, whether lines or capitals must be, and the mark.
_FIXED = (
    *((sign, text, False, False, name) for sign, text, name in marks.FIXED),
    *((sign, text, True, False, name) for sign, text, name in marks.OF_LINES),
    *((text[0], text, False, True, name) for text, name in marks.OF_CAPITALS),
)
