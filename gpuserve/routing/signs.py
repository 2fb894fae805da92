"""What in one piece of text speaks for code or against it, as named weights in log-odds.

One pass of tokens looked up in a dictionary, and a handful of patterns for syntax; alternations
of many words would cost `re` about 1 µs per character.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from gpuserve.routing.syntax import FENCE, FORMULA, PROSE_FENCES, SENTENCE, SYNTAX
from gpuserve.routing.vocabulary import HOMONYMS, PHRASES, STEMS, SUBSTRINGS, THINGS, VERBS, WORDS
from gpuserve.routing.wrappers import unwrapped

# The request stands at the head or the tail of a long turn; the middle is paste. The window
# bounds the time whatever the size.
HEAD_CHARS = 1500
TAIL_CHARS = 500

_STEM_CHARS = range(3, 9)
# Latin words, so that "Pythonで" holds "python"; the rest is looked at where there is any.
_TOKEN = re.compile(r"[a-z](?:[\w'./-]*\w)?[+#]*", re.ASCII)
_WORD = re.compile(r"[^\W\d_]+")
_FIRST_OF_PHRASE = frozenset(phrase.split()[0] for phrase in PHRASES)
# Tokens after which the next one matters little: many weak words are not one strong one.
_DECAY = 0.72
_TYPICAL_TOKENS = 40
# How many words behind the verb the thing may stand: "write a short and fast function".
_REACH = 6


@dataclass(frozen=True, slots=True)
class Sign:
    """One sign and its weight: above zero for code, below for anything else."""

    name: str
    weight: float


def window(text: str) -> str:
    """Return *text*, or the head and the tail of a long one."""
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        return text
    return f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"


def signs_of(text: str) -> list[Sign]:
    """Return every sign found in *text* (only its window is read), in no particular order."""
    # Text that went through JSON twice shows its line ends as two characters.
    text = window(unwrapped(text)).replace("\\n", "\n")
    return [*_syntax(text), *_words(text)]


def word_signs_of(text: str) -> list[Sign]:
    """Return the signs that are words, for text whose syntax says nothing: function schemas."""
    return list(_words(window(text)))


def balance(signs: list[Sign]) -> float:
    """Return the sum of *signs* in log-odds, each further one on a side counting less."""
    return _fading(s.weight for s in signs if s.weight > 0) - _fading(
        -s.weight for s in signs if s.weight < 0
    )


def _fading(weights: Iterator[float]) -> float:
    total, factor = 0.0, 1.0
    for weight in sorted(weights, reverse=True):
        total += weight * factor
        factor *= _DECAY
    return total


def _syntax(text: str) -> Iterator[Sign]:
    for fence in FENCE.finditer(text):
        language = fence.group(1).lower()
        if language in PROSE_FENCES:
            continue
        yield Sign(f"fenced {language}" if language else "fence", 3.5 if language else 2.5)
        break
    for syntax in SYNTAX:
        hits = syntax.hits(text)
        if hits:
            yield Sign(syntax.name, syntax.first + syntax.more * (hits - 1))
    if FORMULA.search(text):
        yield Sign("formula", -2.0)
    sentences = sum(1 for _ in islice(SENTENCE.finditer(text), 4))
    if sentences > 1:
        yield Sign("sentences", -0.4 * sentences)


def _words(text: str) -> Iterator[Sign]:
    lowered = text.lower()
    tokens = _TOKEN.findall(lowered)
    phrases, used = _phrases(tokens)
    yield from (Sign(phrase, PHRASES[phrase]) for phrase in phrases)
    if _asks_to_program(tokens):
        yield Sign("asks to program", 1.5)
    # In a long text any weak word turns up sooner or later.
    faint = min(1.0, (_TYPICAL_TOKENS / max(1, len(tokens))) ** 0.5)
    distinct = dict.fromkeys(tokens)
    for word in distinct:
        weight = WORDS.get(word)
        if weight is not None and word not in used and not _elsewhere(word, distinct):
            yield Sign(word, weight if abs(weight) >= 2 else weight * faint)
    if not text.isascii():
        yield from _other_scripts(lowered)


def _elsewhere(word: str, company: Mapping[str, object]) -> bool:
    """Whether *word* stands among words that give it another meaning."""
    others = HOMONYMS.get(word)
    return others is not None and any(other in company for other in others)


def _asks_to_program(tokens: list[str]) -> bool:
    """Whether a verb such as "write" has a thing such as "function" a few words behind it."""
    verb_at = -_REACH - 1
    for at, token in enumerate(tokens):
        if token in VERBS:
            verb_at = at
        elif token in THINGS and at - verb_at <= _REACH:
            return True
    return False


def _other_scripts(lowered: str) -> Iterator[Sign]:
    for word in dict.fromkeys(_WORD.findall(lowered)):
        weight = WORDS.get(word) if not word.isascii() else None
        weight = weight or _stem(word)
        if weight:
            yield Sign(word, weight)
    for part, weight in SUBSTRINGS.items():
        if part in lowered:
            yield Sign(part, weight)


def _phrases(tokens: list[str]) -> tuple[list[str], set[str]]:
    """Return the phrases in *tokens* and the words that they use up."""
    found: dict[str, None] = {}
    used: set[str] = set()
    for at, token in enumerate(tokens):
        if token not in _FIRST_OF_PHRASE:
            continue
        for size in (3, 2):
            phrase = " ".join(tokens[at : at + size])
            if phrase in PHRASES:
                found[phrase] = None
                used.update(phrase.split())
                break
    return list(found), used


def _stem(word: str) -> float | None:
    if not "а" <= word[0] <= "ё":
        return None
    for length in _STEM_CHARS:
        weight = STEMS.get(word[:length])
        if weight is not None:
            return weight
    return None
