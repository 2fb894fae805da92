"""Regular expressions out of a profile, matched in linear time whatever the text holds.

RE2 has no backtracking (https://github.com/google/re2/wiki/WhyRE2): no pattern and no prompt
make it slow, so an operator's pattern needs no proof and a stranger's text no limit but its
size. The price is that patterns have neither lookaround nor back-references.
"""

import re
from typing import Any, Protocol

# What RE2 may take for one pattern's automaton; its own default.
_MOST_BYTES = 8 << 20
LONGEST_PATTERN_CHARS = 1000


class BadPattern(ValueError):
    """The text is no regular expression that RE2 takes; `hint` says what to write."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class Pattern(Protocol):
    """A compiled pattern."""

    def search(self, text: str) -> Any:
        """Return the first match in *text*, None where there is none."""


def compiled(text: str) -> Pattern:
    """Return the pattern *text*, which tells upper from lower case unless it begins `(?i)`.

    Raises BadPattern.
    """
    if len(text) > LONGEST_PATTERN_CHARS:
        raise BadPattern(
            f"a regular expression has at most {LONGEST_PATTERN_CHARS} characters, "
            f"found {len(text)}"
        )
    try:
        import re2
    except ImportError as error:
        raise BadPattern(
            "regular expressions need the package google-re2", "pip install google-re2"
        ) from error
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MOST_BYTES
    try:
        pattern: Pattern = re2.compile(text, options=options)
    except (re2.error, UnicodeEncodeError) as error:
        raise BadPattern(f'"{text}" is no regular expression: {_told(error)}', _hint(text)) from (
            error
        )
    return pattern


def searchable(text: str) -> str:
    """Return *text* without lone surrogates, which JSON can name and UTF-8 has no bytes for."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode()


def _told(error: Exception) -> str:
    reason = error.args[0] if error.args else error
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)


def _hint(text: str) -> str | None:
    if re.search(r"\(\?(?:[=!]|<[=!])|\\[1-9]", text):
        return (
            "the syntax is RE2's, which is safe on any text: no lookaround, no back-references "
            "(https://github.com/google/re2/wiki/Syntax)"
        )
    return "in TOML, write patterns in single quotes: regex = '\\bword\\b'"
