"""Reads a TOML file: to its tables and their places, or to the reason why not."""

import os
import re
from pathlib import Path
from typing import Any

import tomli

from gpuserve.errors import Problem, ProfileError
from gpuserve.profile.source import Source, source_of

# A profile of a hundred models is 50 KiB; what is larger was named by mistake.
LARGEST_BYTES = 1 << 20
_PLACE = re.compile(r"\s*\(at line (\d+), column (\d+)\)")


def read_toml(path: Path, *, kind: str) -> tuple[dict[str, Any], Source]:
    """Return the tables in the file *path*, and the line of each key.

    *kind* ("profile") is what the file should be, for messages. Raises ProfileError.
    """
    return parse_toml(_text(path, kind), file=str(path))


def parse_toml(text: str, *, file: str) -> tuple[dict[str, Any], Source]:
    """Return the tables of *text*, and the line of each key. Raises ProfileError."""
    if not text.strip():
        raise ProfileError([Problem(message="the file is empty", file=file)])
    try:
        return tomli.loads(text), source_of(text, file=file)
    except RecursionError as error:
        problem = Problem(message="arrays or tables are nested too deeply", file=file)
        raise ProfileError([problem]) from error
    except ValueError as error:
        raise ProfileError([_syntax_problem(error, text, file)]) from error


def _text(path: Path, kind: str) -> str:
    def refuse(message: str, hint: str | None = None) -> ProfileError:
        return ProfileError([Problem(message=message, file=str(path), hint=hint)])

    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_BYTES + 1)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise refuse("no such file", _beside(path)) from error
    except IsADirectoryError as error:
        raise refuse(f"a directory, not a {kind}", _inside(path)) from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise refuse(f"cannot be read: {reason}") from error
    if len(raw) > LARGEST_BYTES:
        found = f"{size} bytes" if size > LARGEST_BYTES else "more"
        raise refuse(f"expected a {kind} of at most {LARGEST_BYTES} bytes, found {found}")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start}"
        raise ProfileError([Problem(message=message, file=str(path), line=line)]) from error


def _beside(path: Path) -> str | None:
    from gpuserve.profile.words import near

    try:
        names = [entry.name for entry in path.absolute().parent.glob("*.toml")]
    except OSError:
        return None
    close = near(path.name, names)
    return f"did you mean {path.with_name(close)}?" if close else None


def _inside(path: Path) -> str | None:
    try:
        names = sorted(entry.name for entry in path.glob("*.toml"))
    except OSError:
        return None
    return f"it holds {', '.join(names[:5])}" if names else None


def _syntax_problem(error: ValueError, text: str, path: str) -> Problem:
    said = str(error)
    place = _PLACE.search(said)
    if place:
        line, column = int(place[1]), int(place[2])
        message = f"not valid TOML: {_PLACE.sub('', said)} at column {column}"
    else:
        line = text.rstrip().count("\n") + 1  # tomli says "at end of document"
        message = f"not valid TOML: {said}"
    return Problem(message=message, file=path, line=line, hint=_syntax_hint(said))


def _syntax_hint(said: str) -> str | None:
    if "overwrite" in said.lower() or "declare" in said.lower():
        return "the same key or table stands twice"
    if "Invalid value" in said:
        return 'texts stand in quotes: name = "coder"'
    return None
