"""Marks of code, shells, logs and lists that words do not show, found without slow patterns.

Each is a fixed string, or a letter looked at with its neighbours at most a few times, so that no
text makes them slow: a search for a fixed string costs tens of nanoseconds per 1,000 characters.
"""

import re
from collections.abc import Callable, Iterator

# A fixed string, and the mark that it makes. Text is seen as written, case included. Those of the
# first two groups are looked for only where there is a line break, or a backslash.
_OF_LINES: tuple[tuple[str, str], ...] = (
    ("\n    ", "indent"),
    ("\n\t", "indent"),
    (";\n", "line;"),
    ("{\n", "line{"),
    ("):\n", "line):"),
    ("}\n", "line}"),
    ("\n@@ -", "diff"),
    ("\n+++ ", "diff"),
    ("\n--- a", "diff"),
    ("\tat ", "stack trace"),
    ("    at ", "stack trace"),
    ('  File "', "stack trace"),
)
_OF_BACKSLASHES: tuple[tuple[str, str], ...] = (
    ("\\frac", "formula"),
    ("\\sqrt", "formula"),
    ("\\mathbb", "formula"),
    ("\\begin{", "formula"),
)
_ANYWHERE: tuple[tuple[str, str], ...] = (
    ("SELECT ", "SQL"),
    ("INSERT INTO", "SQL"),
    ("CREATE TABLE", "SQL"),
    ("DELETE FROM", "SQL"),
    (" JOIN ", "SQL"),
    ("#!/", "shebang"),
    ("diff --git", "diff"),
    ("Traceback (most recent", "stack trace"),
    ("$$", "formula"),
)
_FENCE = re.compile(r"```[ \t]*([\w+#-]*)")
_PROSE_FENCES = frozenset(("text", "txt", "markdown", "md", "quote", "json", "csv"))
_CAMEL = re.compile(r"[a-z][A-Z][a-z]")
# How often a letter is looked at with its neighbours before the search is given up.
_LOOKS = 8
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_BEFORE_PATH = frozenset(" \n\t~.\"'=(`:>")


def marks_of(text: str) -> list[str]:
    """Return the names of the marks in *text*, each once, in a fixed order."""
    found = dict.fromkeys([name for fixed, name in _ANYWHERE if fixed in text])
    if "\n" in text:
        found.update(dict.fromkeys([name for fixed, name in _OF_LINES if fixed in text]))
    if "\\" in text:
        found.update(dict.fromkeys([name for fixed, name in _OF_BACKSLASHES if fixed in text]))
    found.update(dict.fromkeys(_looked_for(text)))
    return list(found)


def _looked_for(text: str) -> Iterator[str]:
    if "```" in text:
        fence = _FENCE.search(text)
        language = fence.group(1).lower() if fence else ""
        if language in _PROSE_FENCES:
            yield "fenced prose"
        else:
            yield f"fence{' of code' if language else ''}"
    elif "`" in text:
        yield "backtick"
    if _any(text, "(", _follows_name):
        yield "call"
    if _any(text, "[", _follows_word):
        yield "subscript"
    if _any(text, "_", _joins_words):
        yield "snake_case"
    if _any(text, "Error", _follows_letter) or _any(text, "Exception", _follows_letter):
        yield "error type"
    if _any(text, " -", _is_option):
        yield "option"
    if _any(text, "/", _is_path) or ":\\" in text:
        yield "path"
    if _CAMEL.search(text):
        yield "camelCase"


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


def _follows_word(text: str, at: int) -> bool:
    return at > 0 and (text[at - 1].isalnum() or text[at - 1] in "_)]")


def _follows_name(text: str, at: int) -> bool:
    """Whether a name of two letters or more stands before: `f(x)` is mathematics."""
    return at > 1 and text[at - 1] in _NAME and text[at - 2] in _NAME


def _joins_words(text: str, at: int) -> bool:
    """Whether two letters or more stand on both sides: `a_3` is mathematics."""
    return at > 1 and text[at - 2 : at].isalnum() and text[at + 1 : at + 3].isalpha()


def _follows_letter(text: str, at: int) -> bool:
    return at > 0 and text[at - 1].isalpha()


def _is_option(text: str, at: int) -> bool:
    """Whether ` -x` or ` --long` stands there, and no dash between words."""
    behind = text[at + 2 : at + 4]
    return behind[:1].isalpha() or (behind[:1] == "-" and behind[1:].isalpha())


def _is_path(text: str, at: int) -> bool:
    """Whether a path begins there: `/etc`, `~/x`, `./x`; not `and/or`, `1/2` or `https://`."""
    before, behind = text[at - 1 : at] or " ", text[at + 1 : at + 2]
    return behind.isalnum() and before in _BEFORE_PATH
