"""What a text shows: its words, neighbours, stems, character pairs, punctuation and marks.

Plain ASCII, which most requests are, is cut by translating every character that no word has to a
space, a fifth of what a pattern costs; a pattern does the same for the rest. What a word means is
looked up elsewhere.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from gpuserve.routing.marks import marks_of
from gpuserve.routing.wrappers import may_be_wrapped, unwrapped

# The request stands at the head or the tail of a long turn; the middle is paste. The window
# bounds the time whatever the size.
HEAD_CHARS = 400
TAIL_CHARS = 200

# Latin letters with their accents (a–z, Latin-1, Extended-A and B, combining, Extended Additional).
_LATIN = "a-zß-öø-ɏ\u0300-\u036fḁ-ỿ"
# "c++", "c#", "$name", "@media" and "utf8" are words; a full stop begins one: ".py".
_IN_WORDS = "abcdefghijklmnopqrstuvwxyz0123456789_$#@+."
# A word in Latin letters; a full stop alone; a run of anything else that is no ASCII, which is a
# word in Cyrillic or Arabic and a sentence in Chinese.
_WORD = re.compile(rf"\.?[{_LATIN}0-9_$#@+]+|\.|[^\x00-ɏ\s\u0300-\u036fḁ-ỿ]+")
_TO_WORDS = bytes(c if chr(c) in _IN_WORDS else 32 for c in range(128)) + b" " * 128
_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^`{|}~")
_TO_PUNCTUATION = bytes(c if chr(c) in _PUNCTUATION else 32 for c in range(128)) + b" " * 128
# What word processors and phones make of ASCII: no reason to read a text as one in another script.
_TYPED = (
    ("\u2019", "'"),
    ("\u2018", "'"),
    ("\u201c", '"'),
    ("\u201d", '"'),
    ("\u2013", "-"),
    ("\u2014", "-"),
    ("\u2026", "..."),
    ("\u00a0", " "),
)
# Words with endings are cut to this many letters: a cheap stem.
STEM_CHARS = 7
LATIN_STEM_CHARS = 6
FIRST = "^"  # stands before the first token, so that "^ how" is a neighbour pair


@dataclass(frozen=True, slots=True)
class Seen:
    """What a text shows. `tokens` are its words in order, full stops among them; the rest once.

    `words` are Latin words and runs of punctuation, `others` the runs in other scripts, `pieces`
    their stems or character pairs (and stems of Latin words where there are accents), `marks` signs
    of syntax, `lowered` the text they were found in.
    """

    tokens: list[str]
    words: set[str]
    others: list[str]
    pieces: set[str]
    marks: list[str]
    lowered: str

    def neighbours(self) -> Iterator[tuple[str, str]]:
        """Yield the pairs of tokens that follow each other; the first follows `FIRST`."""
        return pairwise((FIRST, *self.tokens))


def window(text: str) -> str:
    """Return *text*, or the head and the tail of a long one."""
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        return text
    return f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"


def readable(text: str) -> str:
    """Return the window of *text* as it is read; a wrapper around a sentence is taken off."""
    if (
        len(text) <= HEAD_CHARS + TAIL_CHARS
        and text.isascii()
        and "\\n" not in text
        and not may_be_wrapped(text)
    ):
        return text
    # Text that went through JSON twice shows its line ends as two characters.
    return typed(window(unwrapped(text)).replace("\\n", "\n"))


def seen_in(text: str) -> Seen:
    """Return what the window of *text* shows; a wrapper around a sentence is taken off."""
    return see(readable(text))


def see(text: str) -> Seen:
    """Return what *text* shows, all of it, as `readable` returned it."""
    lowered = text.lower()
    tokens = _tokens(lowered)
    words = set(tokens)
    others: list[str] = []
    pieces: set[str] = set()
    if not lowered.isascii():
        others = sorted(word for word in words if is_other_script(word))
        words.difference_update(others)
        pieces = _pieces(words, others)
    words.update(_punctuation(lowered))
    return Seen(tokens, words, others, pieces, marks_of(text), lowered)


def typed(text: str) -> str:
    """Return *text* with its quotes, dashes and dots as a keyboard has them."""
    if text.isascii():
        return text
    for fancy, plain in _TYPED:
        text = text.replace(fancy, plain)
    return text


def tokens_of(text: str) -> list[str]:
    """Return the words of *text* in order, full stops among them, as `seen_in` finds them."""
    return _tokens(typed(text).lower())


def words_of(lowered: str) -> frozenset[str]:
    """Return the words of a *lowered* text, each once."""
    return frozenset(_tokens(lowered))


def is_other_script(word: str) -> bool:
    """Whether *word* is written in no Latin letters."""
    return word[0] > "ɏ" and not ("ḁ" <= word[0] <= "ỿ" or "\u0300" <= word[0] <= "\u036f")


def is_spaced(word: str) -> bool:
    """Whether its script puts spaces between words: Greek to Sinhala; not Thai, Chinese, Korean.

    Korean has spaces, but its particles hide the ends of words; pairs of syllables do better.
    """
    return "Ͱ" <= word[0] < "\u0e00"


def _tokens(lowered: str) -> list[str]:
    if not lowered.isascii():
        return _WORD.findall(lowered)
    return lowered.replace(".", " .").encode().translate(_TO_WORDS).decode().split()


def _punctuation(lowered: str) -> list[str]:
    # Half a surrogate pair, which JSON can spell, is no punctuation either.
    return lowered.encode("utf-8", "ignore").translate(_TO_PUNCTUATION).decode().split()


def _pieces(words: set[str], others: list[str]) -> set[str]:
    pieces = {f"{w[:LATIN_STEM_CHARS]}~" for w in words if len(w) > LATIN_STEM_CHARS}
    for run in others:
        if is_spaced(run):
            pieces.add(run[:STEM_CHARS])
        else:
            pieces.update(map(str.__add__, run, run[1:]))
    return pieces
