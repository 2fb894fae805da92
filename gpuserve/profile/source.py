"""The text that a profile was read from: gives each problem its file and line."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuserve.errors import Problem
from gpuserve.profile.lines import KeyPath, key_lines

# A key of a model, and what stands below it.
_MODEL_KEY = re.compile(r"(model\[\d+\])(\.[A-Za-z0-9_-]+)(.*)")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file's name and the line of each TOML path in it (`{"model[0].name": 7}`)."""

    file: str | None
    lines: Mapping[str, int] = field(default_factory=dict)

    def line(self, where: str) -> int | None:
        """Return the line of the TOML path *where*, or of the table it is missing from."""
        while where:
            if where in self.lines:
                return self.lines[where]
            where = where[: max(where.rfind("."), where.rfind("["), 0)]
        return None

    def stated(self, where: str) -> str:
        """Return the TOML path that says *where*: a model's own key, or the one of `[engine]`."""
        key = _MODEL_KEY.fullmatch(where)
        if key is None or key[1] + key[2] in self.lines or f"engine{key[2]}" not in self.lines:
            return where
        return f"engine{key[2]}{key[3]}"

    def problem(
        self, where: str, message: str, hint: str | None = None, *, warning: bool = False
    ) -> Problem:
        """Return a problem of the TOML path *where* (empty: of the file as a whole).

        What a model has from `[engine]` has its place there; the message then names the model.
        """
        stated = self.stated(where)
        if stated != where:
            where, message = stated, f"{where.partition('.')[0]}: {message}"
        line = self.line(where)
        return Problem(
            message=message, where=where, file=self.file, line=line, hint=hint, warning=warning
        )


def source_of(text: str, *, file: str | None) -> Source:
    """Return the places of *text*, which must be valid TOML."""
    lines = {dotted(path): line for path, line in key_lines(text).items()}
    return Source(file=file, lines=lines)


def dotted(path: KeyPath) -> str:
    """Return *path* as people write it: `("model", 1, "name")` is `model[1].name`."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            word = key if _BARE.fullmatch(key) else '"' + key.replace('"', '\\"') + '"'
            text += f".{word}" if text else word
    return text
