"""What stands around the GPUs: shared memory, disks, and NVIDIA's Multi-Process Service."""

import os
import shutil
from pathlib import Path

from gpuserve.readings import Disk


def shared_memory_bytes(root: Path = Path("/")) -> int | None:
    """Return the size of /dev/shm, None where there is none."""
    try:
        values = os.statvfs(root / "dev" / "shm")
    except OSError:
        return None
    return values.f_blocks * values.f_frsize


def disk_of(path: Path) -> Disk:
    """Return the file system that *path* is on, or will be once it is made."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    return Disk(path=str(path), free_bytes=shutil.disk_usage(there).free)


def multi_process_service(root: Path = Path("/")) -> bool:
    """Return whether NVIDIA's Multi-Process Service runs on this machine.

    Its daemon is `nvidia-cuda-mps-control`, which /proc names by its first 15 characters.
    """
    for name in (root / "proc").glob("[0-9]*/comm"):
        try:
            if name.read_text(encoding="utf-8", errors="replace").startswith("nvidia-cuda-mps"):
                return True
        except OSError:
            continue  # it ended meanwhile
    return False
