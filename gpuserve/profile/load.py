"""Reads a profile: from a file to a Profile, or to every reason why not."""

import os
import re
from pathlib import Path

import tomli

from gpuserve.errors import Problem, ProfileError
from gpuserve.profile.places import Places
from gpuserve.profile.source import Source, source_of
from gpuserve.profile.spec import Profile

# A profile of a hundred models is 50 KiB; what is larger was named by mistake.
LARGEST_BYTES = 1 << 20
_PLACE = re.compile(r"\s*\(at line (\d+), column (\d+)\)")


def load(path: Path) -> Profile:
    """Return the profile in the file *path*.

    Raises ProfileError with every problem at once, each with file, line and TOML path.
    """
    return read(path)[0]


def read(path: Path) -> tuple[Profile, Source]:
    """Return the profile in the file *path*, and its places for problems that show later.

    Raises ProfileError, as `load`.
    """
    return _read_text(_text(path), path=str(path))


def load_text(text: str, *, path: str) -> Profile:
    """Return the profile that *text* holds, as if it stood in the file *path*.

    Raises ProfileError, as `load`.
    """
    return _read_text(text, path=path)[0]


def _read_text(text: str, *, path: str) -> tuple[Profile, Source]:
    from gpuserve.profile.convert import profile_of
    from gpuserve.profile.crosschecks import crosscheck
    from gpuserve.profile.faults import shape_faults

    if not text.strip():
        hint = 'the smallest profile: [[model]] with name = "…" and model = "…"'
        raise ProfileError([Problem(message="the file is empty", file=path, hint=hint)])
    try:
        tables = tomli.loads(text)
        source = source_of(text, file=path)
    except RecursionError as error:
        problem = Problem(message="arrays or tables are nested too deeply", file=path)
        raise ProfileError([problem]) from error
    except ValueError as error:
        raise ProfileError([_syntax_problem(error, text, path)]) from error
    document, usable, problems = shape_faults(tables, source)
    problems += crosscheck(usable, source)
    if document is None or problems:
        raise ProfileError(sorted(problems, key=lambda problem: problem.line or 0))
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - a symlink's own place counts
    places = Places(profile=absolute.parent, current=Path.cwd())
    return profile_of(document, path=str(absolute), places=places), source


def _text(path: Path) -> str:
    def refuse(message: str, hint: str | None = None) -> ProfileError:
        return ProfileError([Problem(message=message, file=str(path), hint=hint)])

    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_BYTES + 1)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise refuse("no such file", _beside(path)) from error
    except IsADirectoryError as error:
        raise refuse("a directory, not a profile", _inside(path)) from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise refuse(f"cannot be read: {reason}") from error
    if len(raw) > LARGEST_BYTES:
        found = f"{size} bytes" if size > LARGEST_BYTES else "more"
        raise refuse(f"expected a profile of at most {LARGEST_BYTES} bytes, found {found}")
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
