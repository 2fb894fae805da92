"""What was read from a machine: one moment's values, from NVML, /proc, or a machine file.

These are plain values of layer 1, so that a plan can be made for hardware that is not here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gpuserve.units import gib

MOST_HOLDERS = 3  # of those that are in the way, so many are named
# "exclusive": one process at a time may use the GPU; "prohibited": none may (nvidia-smi -c).
ComputeMode = Literal["default", "exclusive", "prohibited"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process that holds memory on a GPU. `name` is None where it is hidden from us."""

    pid: int
    used_bytes: int
    name: str | None = None


def holders(processes: Sequence[GpuProcess]) -> str:
    """Return who holds memory, the largest first: a few by name, and how many more there are.

    A driver that does not say how much (in some containers) gives 0; then no figure is told.
    """
    largest = sorted(processes, key=lambda process: -process.used_bytes)
    told = [
        f"{process.name or 'a process whose name is hidden'} (pid {process.pid}) holds "
        + (gib(process.used_bytes) if process.used_bytes else "some")
        for process in largest[:MOST_HOLDERS]
    ]
    if len(largest) > MOST_HOLDERS:
        told.append(f"{len(largest) - MOST_HOLDERS} more hold the rest")
    return ", ".join(told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One reading of one GPU.

    `index` is in PCI bus order. `total_bytes` is what CUDA reports (less than nvidia-smi's
    total). `free_bytes` is what is free now. `compute_capability` is (major, minor) or None
    when unknown. `display`: a screen is driven by it. `ecc_changes`: its ECC mode changes with
    the next reboot, and its total with it. `bus` is its place on the PCI bus, such as
    "0000:65:00"; empty when unknown.
    """

    index: int
    name: str
    total_bytes: int
    free_bytes: int
    uuid: str = ""
    host: str = ""
    compute_capability: tuple[int, int] | None = None
    processes: tuple[GpuProcess, ...] = ()
    compute_mode: ComputeMode = "default"
    display: bool = False
    ecc_changes: bool = False
    bus: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """The NVIDIA driver: its version, and the newest CUDA that it runs (None: it does not say)."""

    version: str
    cuda: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """One file system, by the directory that matters on it."""

    path: str
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One reading of the host. `vllm_version` is what a machine file states, else None.

    `shm_bytes` is the size of /dev/shm, None where it was not read.
    """

    ram_total_bytes: int
    ram_available_bytes: int
    cpus: int
    vllm_version: str | None = None
    shm_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One reading of everything that a plan needs to know about a box.

    `hidden_gpus` are indices of GPUs that are there but not ours: CUDA_VISIBLE_DEVICES of whoever
    asks leaves them out. `driver`, `downloads` (where weights are fetched to) and `logs` are None
    for hardware that is not here. `mps`: NVIDIA's Multi-Process Service runs.
    """

    gpus: tuple[Gpu, ...]
    host: Host
    hidden_gpus: tuple[int, ...] = ()
    driver: Driver | None = None
    mps: bool = False
    downloads: Disk | None = None
    logs: Disk | None = None
