"""Reads a profile: from a file to a Profile, or to every reason why not."""

import os
from pathlib import Path
from typing import Any

from gpuserve.errors import ProfileError
from gpuserve.profile.places import Places
from gpuserve.profile.source import Source
from gpuserve.profile.spec import Profile
from gpuserve.profile.tomlfile import parse_toml, read_toml


def load(path: Path) -> Profile:
    """Return the profile in the file *path*.

    Raises ProfileError with every problem at once, each with file, line and TOML path.
    """
    return read(path)[0]


def read(path: Path) -> tuple[Profile, Source]:
    """Return the profile in the file *path*, and its places for problems that show later.

    Raises ProfileError, as `load`.
    """
    tables, source = read_toml(path, kind="profile")
    return _checked(tables, source, str(path))


def load_text(text: str, *, path: str) -> Profile:
    """Return the profile that *text* holds, as if it stood in the file *path*.

    Raises ProfileError, as `load`.
    """
    tables, source = parse_toml(text, file=path)
    return _checked(tables, source, path)[0]


def _checked(tables: dict[str, Any], source: Source, path: str) -> tuple[Profile, Source]:
    from gpuserve.profile.convert import profile_of
    from gpuserve.profile.crosschecks import crosscheck
    from gpuserve.profile.faults import shape_faults

    document, usable, problems = shape_faults(tables, source)
    problems += crosscheck(usable, source)
    if document is None or problems:
        raise ProfileError(sorted(problems, key=lambda problem: problem.line or 0))
    current = _current_directory()
    # Not resolved: what stands beside a symbolic link is meant, not beside its target.
    absolute = Path(os.path.normpath(current / path))
    places = Places(profile=absolute.parent, current=current)
    return profile_of(document, path=str(absolute), places=places), source


def _current_directory() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:  # it was removed; an absolute path still works
        return Path("/")
