"""What a text shows: its words, neighbours, stems, character pairs and marks, each once.

One pass with one pattern; what a word means is looked up elsewhere. Alternations of many words
would cost `re` about 1 µs per character.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

from gpuserve.routing.marks import marks_of
from gpuserve.routing.wrappers import unwrapped

# The request stands at the head or the tail of a long turn; the middle is paste. The window
# bounds the time whatever the size.
HEAD_CHARS = 1500
TAIL_CHARS = 500

# Latin letters with their accents (a–z, Latin-1, Extended-A and B, combining, Extended Additional).
_LATIN = "a-zà-öø-ɏ\u0300-\u036fḁ-ỿ"
# A Latin word, `.name` and `$name` included; a run of ASCII punctuation; a run of anything else,
# which is a word in Cyrillic or Arabic and a sentence in Chinese. Numbers and spaces say nothing.
_TOKEN = re.compile(
    rf"[.$#@]?[{_LATIN}_][{_LATIN}0-9_]*"
    r"|[!-/:-@\[-^`{-~]+"
    r"|[^\x00-ɏ\s\u0300-\u036fḁ-ỿ]+"
)
# Words with endings are cut to this many letters: a cheap stem.
_STEM_CHARS = 7
_LATIN_STEM_CHARS = 6
FIRST = "^"  # stands before the first token, so that "^ how" is a neighbour pair


@dataclass(frozen=True, slots=True)
class Seen:
    """What a text shows. `tokens` in order; the rest each once.

    `words` are Latin words and punctuation, `others` the runs in other scripts, `pieces` their
    stems or character pairs (and stems of Latin words where there are accents), `pairs` tokens
    that follow each other, `marks` signs of syntax, `lowered` the text they were found in.
    """

    tokens: list[str]
    words: set[str]
    others: list[str]
    pieces: set[str]
    pairs: set[tuple[str, str]]
    marks: list[str]
    lowered: str


def window(text: str) -> str:
    """Return *text*, or the head and the tail of a long one."""
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        return text
    return f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"


def seen_in(text: str) -> Seen:
    """Return what the window of *text* shows; a wrapper around a sentence is taken off."""
    # Text that went through JSON twice shows its line ends as two characters.
    text = window(unwrapped(text)).replace("\\n", "\n")
    lowered = text.lower()
    tokens = _TOKEN.findall(lowered)
    words = set(tokens)
    pairs = set(pairwise(tokens))
    if tokens:
        pairs.add((FIRST, tokens[0]))
    others: list[str] = []
    pieces: set[str] = set()
    if not lowered.isascii():
        others = sorted(word for word in words if is_other_script(word))
        words.difference_update(others)
        pieces = _pieces(words, others)
    return Seen(tokens, words, others, pieces, pairs, marks_of(text), lowered)


def tokens_of(text: str) -> list[str]:
    """Return the tokens of *text* as `seen_in` finds them."""
    return _TOKEN.findall(text.lower())


def is_other_script(word: str) -> bool:
    """Whether *word* is written in no Latin letters."""
    return word[0] > "ɏ" and not ("ḁ" <= word[0] <= "ỿ" or "\u0300" <= word[0] <= "\u036f")


def is_spaced(word: str) -> bool:
    """Whether its script puts spaces between words: Greek to Sinhala; not Thai, Chinese, Korean.

    Korean has spaces, but its particles hide the ends of words; pairs of syllables do better.
    """
    return "Ͱ" <= word[0] < "\u0e00"


def _pieces(words: set[str], others: list[str]) -> set[str]:
    pieces = {f"{w[:_LATIN_STEM_CHARS]}~" for w in words if len(w) > _LATIN_STEM_CHARS}
    for run in others:
        if is_spaced(run):
            pieces.add(run[:_STEM_CHARS])
        else:
            pieces.update(map(str.__add__, run, run[1:]))
    return pieces
