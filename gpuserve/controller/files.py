"""One way to write a file that others read at any moment."""

from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Replace *path* with *content* at once; raises OSError and then leaves the old file."""
    draft = path.with_name(path.name + ".new")
    draft.write_bytes(content)
    draft.replace(path)
