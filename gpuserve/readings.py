"""What was read from a machine: one moment's values, from NVML, /proc, or a machine file.

These are plain values of layer 1, so that a plan can be made for hardware that is not here.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process that holds memory on a GPU. `name` is None where it is hidden from us."""

    pid: int
    used_bytes: int
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One reading of one GPU.

    `index` is in PCI bus order. `total_bytes` is what CUDA reports (less than nvidia-smi's
    total). `free_bytes` is what is free now. `compute_capability` is (major, minor) or None
    when unknown.
    """

    index: int
    name: str
    total_bytes: int
    free_bytes: int
    uuid: str = ""
    host: str = ""
    compute_capability: tuple[int, int] | None = None
    processes: tuple[GpuProcess, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One reading of the host. `vllm_version` is what a machine file states, else None."""

    ram_total_bytes: int
    ram_available_bytes: int
    cpus: int
    vllm_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One reading of everything that a plan needs to know about a box.

    `hidden_gpus` are indices of GPUs that are there but not ours: CUDA_VISIBLE_DEVICES of whoever
    asks leaves them out.
    """

    gpus: tuple[Gpu, ...]
    host: Host
    hidden_gpus: tuple[int, ...] = ()
