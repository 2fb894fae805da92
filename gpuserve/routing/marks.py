"""Marks of code, shells, logs and lists that words do not show, found without slow patterns.

Each is a fixed string, in the text or in its shape: the text with every letter as `a` or `A`, every
digit as `0`. No text makes them slow: a search for a fixed string costs a fraction of a microsecond
per 1,000 characters.
"""

import re
import string
from collections.abc import Callable, Iterator

# A character without which the fixed string is not there, the string, the mark that it makes. To
# look for one character costs a tenth of looking for two. Text is seen as written, case included.
FIXED: tuple[tuple[str, str, str], ...] = (
    ("#", "#!/", "shebang"),
    ("$", "$$", "formula"),
    ("(", "Traceback (most recent", "stack trace"),
    ("-", "diff --git", "diff"),
    ("\\", "\\frac", "formula"),
    ("\\", "\\sqrt", "formula"),
    ("\\", "\\mathbb", "formula"),
    ("\\", "\\begin{", "formula"),
    ("\\", ":\\", "path"),
)
OF_LINES: tuple[tuple[str, str, str], ...] = (
    ("\n", "\n    ", "indent"),
    ("\t", "\n\t", "indent"),
    (";", ";\n", "line;"),
    ("{", "{\n", "line{"),
    (")", "):\n", "line):"),
    ("}", "}\n", "line}"),
    ("@", "\n@@ -", "diff"),
    ("+", "\n+++ ", "diff"),
    ("-", "\n--- a", "diff"),
    ("\t", "\tat ", "stack trace"),
    (".", "    at ", "stack trace"),
    ('"', '  File "', "stack trace"),
)
OF_CAPITALS: tuple[tuple[str, str], ...] = (
    ("SELECT ", "SQL"),
    ("INSERT INTO", "SQL"),
    ("CREATE TABLE", "SQL"),
    ("DELETE FROM", "SQL"),
    (" JOIN ", "SQL"),
)
# A letter is `a` or `A`, a digit `0`, any byte of a character that is no ASCII `?`.
_SHAPE = re.sub(
    rb"[\x80-\xff]",
    b"?",
    bytes.maketrans(
        (string.ascii_letters + string.digits).encode(), b"a" * 26 + b"A" * 26 + b"0" * 10
    ),
)
# The same without case: letters and digits are `a`.
_LETTERS = _SHAPE.replace(b"A", b"a").replace(b"0", b"a")
_FENCE = re.compile(r"```[ \t]*([\w+#-]*)")
PROSE_FENCES = frozenset(("text", "txt", "markdown", "md", "quote", "json", "csv"))
# The marks that are no fixed strings.
OTHERS = (
    *("backtick", "fenced prose", "fence", "fence of code", "call", "subscript", "snake_case"),
    *("error type", "option", "path", "camelCase"),
)
# How often a letter is looked at with its neighbours before the search is given up.
_LOOKS = 8
_BEFORE_PATH = frozenset(" \n\t~.\"'=(`:>")


def marks_of(text: str) -> list[str]:
    """Return the names of the marks in *text*, each once, in a fixed order."""
    found = [name for sign, fixed, name in FIXED if sign in text and fixed in text]
    if "\n" in text:
        found += [name for sign, fixed, name in OF_LINES if sign in text and fixed in text]
    # Half a surrogate pair, which JSON can spell, has no bytes.
    raw = text.encode("utf-8", "replace")
    shape = raw.translate(_SHAPE)
    if b"AAA" in shape:
        found += [name for fixed, name in OF_CAPITALS if fixed in text]
    if "`" in text:
        found.append(_quoted(text))
    found += _of_shape(text, shape, raw.translate(_LETTERS))
    return list(dict.fromkeys(found))


def _of_shape(text: str, shape: bytes, letters: bytes) -> Iterator[str]:
    # A name of two letters or more: `f(x)` is mathematics. So is `a_3`.
    if "(" in text and b"aa(" in letters:
        yield "call"
    if "[" in text and (b"a[" in letters or b"_[" in letters or b")[" in letters):
        yield "subscript"
    if "_" in text and b"aa_aa" in letters:
        yield "snake_case"
    if _any(text, "Error", _follows_letter) or _any(text, "Exception", _follows_letter):
        yield "error type"
    if "-" in text and (b" -a" in shape or b" -A" in shape or b" --a" in shape):
        yield "option"
    if "/" in text and _any(text, "/", _is_path):
        yield "path"
    if b"aAa" in shape:
        yield "camelCase"


def _quoted(text: str) -> str:
    fence = _FENCE.search(text)
    if fence is None:
        return "backtick"
    language = fence.group(1).lower()
    if language in PROSE_FENCES:
        return "fenced prose"
    return f"fence{' of code' if language else ''}"


def _any(text: str, fixed: str, test: Callable[[str, int], bool]) -> bool:
    """Whether *fixed* stands in *text* in the way of *test*, in the first few places."""
    at = text.find(fixed)
    for _ in range(_LOOKS):
        if at == -1:
            return False
        if test(text, at):
            return True
        at = text.find(fixed, at + 1)
    return False


def _follows_letter(text: str, at: int) -> bool:
    return at > 0 and text[at - 1].isalpha()


def _is_path(text: str, at: int) -> bool:
    """Whether a path begins there: `/etc`, `~/x`, `./x`; not `and/or`, `1/2` or `https://`."""
    before, behind = text[at - 1 : at] or " ", text[at + 1 : at + 2]
    return behind.isalnum() and before in _BEFORE_PATH
