"""One file of a checkpoint, opened with care: it may be damaged, huge, a pipe, a loop of links."""

import json
import stat
from pathlib import Path
from typing import Any, BinaryIO

# Tokenizer settings with thousands of added tokens stay below 1 MiB, indexes of 400 files below 10.
_LARGEST_JSON_BYTES = 64 << 20
_AGAIN = "the file is damaged or incomplete: fetch it again"


class CheckpointError(ValueError):
    """Files that cannot be a model; `hint` says what to do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def opened(file: Path) -> BinaryIO:
    """Open *file* for reading bytes.

    Raises CheckpointError where it is no plain file (a pipe would block, a device never end) or
    cannot be read.
    """
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise CheckpointError(f"{file}: not a plain file")
        return file.open("rb")
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from error


def json_object(file: Path) -> dict[str, Any]:
    """Return the JSON object in *file*; raises CheckpointError for anything else."""
    with opened(file) as stream:
        try:
            raw = stream.read(_LARGEST_JSON_BYTES + 1)
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from error
    if len(raw) > _LARGEST_JSON_BYTES:
        raise CheckpointError(f"{file}: larger than {_LARGEST_JSON_BYTES >> 20} MiB")
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: not JSON", _AGAIN) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: expected a JSON object")
    return value


def is_lost_link(path: Path) -> bool:
    """Whether *path* is a symbolic link that leads nowhere, or back to itself."""
    return path.is_symlink() and not path.exists()
