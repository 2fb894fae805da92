"""Two ways to write a file that others read: at any moment, or on a disk that is full.

Standard library only: the shim uses it.
"""

import errno
import os
from pathlib import Path

# A block of most file systems, and a page of tmpfs: what is written over in place needs no
# new one, so it can be written when the disk is full.
BLOCK_BYTES = 4096


def replace_file(path: Path, content: bytes, *, to_disk: bool = False) -> None:
    """Replace *path* with *content* at once; raises OSError and then leaves the old file.

    With *to_disk* the content also survives a loss of power from here on.
    """
    draft = path.with_name(path.name + ".new")
    try:
        with draft.open("wb") as file:
            file.write(content)
            if to_disk:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def overwrite_file(path: Path, content: bytes) -> None:
    """Write *content*, which must bear spaces at its end, over *path*, mode 0600.

    For files that nobody reads meanwhile, or whose readers bear a torn one. It is padded to
    whole blocks; writing again as many blocks works on a full disk. Raises OSError.
    """
    padded = content.ljust(-(-len(content) // BLOCK_BYTES) * BLOCK_BYTES)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        done = os.pwrite(descriptor, padded, 0)
        if done < len(padded):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if os.fstat(descriptor).st_size > len(padded):
            os.ftruncate(descriptor, len(padded))
    finally:
        os.close(descriptor)
