"""Where each key of a TOML text stands: a map from key path to line number.

The parser (tomli) decides what the text means and reports lines for syntax errors only; this
module knows nothing but places. It reads texts that the parser has accepted, so it skips what
it need not understand and checks nothing.
"""

import re
from bisect import bisect_left

import tomli

KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\r\n]*")
# The multi-line forms come first: `"""` also begins like an empty `""`. Up to two quotes may
# stand before the closing three (TOML 1.0, "String").
_STRING = re.compile(
    r'"""(?:\\.|(?!""")[^\\])*"""("{0,2})'
    r"|'''(?:(?!''').)*'''('{0,2})"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'",
    re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line (from 1) of every key, table and array item in *text*.

    *text* must be valid TOML. An item of `[[model]]` has the path `("model", 0)`; a key that
    several headers share has the line that first names it, unless a header of its own follows.
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self._tables_seen: dict[KeyPath, int] = {}  # of each [[array]]

    def document(self) -> None:
        table: KeyPath = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)

    def _header(self) -> KeyPath:
        line = self._line()
        width = 2 if self._text.startswith("[[", self._at) else 1
        self._at += width
        keys = self._keys()
        self._at += width
        path: KeyPath = ()
        for key in keys[:-1]:
            path = (*path, key)
            self.lines.setdefault(path, line)
            if path in self._tables_seen:
                path = (*path, self._tables_seen[path] - 1)
        path = (*path, keys[-1])
        if width == 1:
            self.lines[path] = line
            return path
        self.lines.setdefault(path, line)
        index = self._tables_seen.get(path, 0)
        self._tables_seen[path] = index + 1
        self.lines[*path, index] = line
        return (*path, index)

    def _pair(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for key in self._keys():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self._at += 1  # =
        self._skip(_SPACE)
        self._value(path)

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while True:
            self._skip(_SPACE)
            if self._text[self._at] in "\"'":
                raw = self._skip(_STRING)
                keys.append(tomli.loads(f"key = {raw}")["key"])
            else:
                keys.append(self._skip(_BARE_KEY))
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        first = self._text[self._at]
        if first in "\"'":
            self._skip(_STRING)
        elif first in "[{":
            self._container(path, closing="]" if first == "[" else "}")
        else:
            self._skip(_SCALAR)

    def _container(self, path: KeyPath, *, closing: str) -> None:
        index = 0
        self._at += 1
        while True:
            self._skip(_BLANK)
            here = self._text[self._at]
            if here == closing:
                self._at += 1
                return
            if here == ",":
                self._at += 1
            elif closing == "}":
                self._pair(path)
            else:
                item = (*path, index)
                self.lines[item] = self._line()
                self._value(item)
                index += 1

    def _skip(self, what: re.Pattern[str]) -> str:
        match = what.match(self._text, self._at)
        if match is None:  # only on a text that the parser would have refused
            raise ValueError(f"line {self._line()} is not valid TOML")
        self._at = match.end()
        return match.group()

    def _line(self) -> int:
        return bisect_left(self._newlines, self._at) + 1
