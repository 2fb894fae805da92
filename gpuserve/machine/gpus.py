"""The GPUs of this host, read through NVML.

NVML's own total is what nvidia-smi prints; CUDA, and so vLLM, sees less: its second memory
structure gives what driver and firmware keep back apart (`reserved`), and total less reserved
is CUDA's total to within some MiB.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from gpuserve.errors import HostUnavailable
from gpuserve.machine.nvml import (
    COMPUTE_EXCLUSIVE,
    COMPUTE_PROHIBITED,
    DRIVER_NOT_LOADED,
    GPU_IS_LOST,
    LIB_RM_VERSION_MISMATCH,
    LIBRARY_NOT_FOUND,
    NOT_SUPPORTED,
    Nvml,
    code_of,
    text_of,
)
from gpuserve.machine.visible import Card, visibility
from gpuserve.readings import ComputeMode, Driver, Gpu, GpuProcess

_NVIDIA_VENDOR = "0x10de"
# PCI base class 0x03 is a display controller: a GPU, and not its HDMI sound (0x0403).
_DISPLAY_CLASS = "0x03"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The GPUs that are ours, in PCI bus order, the indices of the others, and what is unsure.

    `driver` is None without one.
    """

    gpus: tuple[Gpu, ...]
    driver: Driver | None = None
    hidden: tuple[int, ...] = ()
    doubts: tuple[str, ...] = ()


def read_gpus(nvml: Nvml | None = None, root: Path = Path("/")) -> tuple[Gpu, ...]:
    """Return one reading of every GPU in PCI bus order, as `see_gpus` with no environment."""
    return see_gpus({}, nvml, root).gpus


def see_gpus(
    environment: Mapping[str, str], nvml: Nvml | None = None, root: Path = Path("/")
) -> Seen:
    """Return one reading of each GPU that *environment* leaves visible.

    None without a driver or a GPU. The index of a GPU is that of the whole machine, whatever
    is hidden. *root* is where /proc and /sys are looked up. Raises HostUnavailable when a
    driver is there but does not work, or one of our GPUs is split (MIG).
    """
    if nvml is None:
        import pynvml

        nvml = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        if code_of(error) == LIBRARY_NOT_FOUND or (
            code_of(error) == DRIVER_NOT_LOADED and not _nvidia_on_the_bus(root)
        ):
            return Seen(gpus=())
        _give_up(error)
    try:
        return _read(nvml, root, environment)
    except nvml.NVMLError as error:
        _give_up(error)
    finally:
        nvml.nvmlShutdown()


def _read(nvml: Nvml, root: Path, environment: Mapping[str, str]) -> Seen:
    handles = [nvml.nvmlDeviceGetHandleByIndex(n) for n in range(nvml.nvmlDeviceGetCount())]
    # NVML promises no order; CUDA_DEVICE_ORDER=PCI_BUS_ID, which engines get, is this one.
    handles.sort(key=lambda handle: _bus_place(nvml.nvmlDeviceGetPciInfo(handle)))
    cards = [
        Card(
            index=index,
            name=text_of(nvml.nvmlDeviceGetName(handle)),
            uuid=text_of(nvml.nvmlDeviceGetUUID(handle)),
        )
        for index, handle in enumerate(handles)
    ]
    ours = visibility(cards, environment)
    return Seen(
        gpus=tuple(_gpu(nvml, cards[index], handles[index], root) for index in ours.visible),
        driver=_driver(nvml),
        hidden=ours.hidden,
        doubts=ours.doubts,
    )


def _driver(nvml: Nvml) -> Driver | None:
    try:
        version = text_of(nvml.nvmlSystemGetDriverVersion())
    except nvml.NVMLError:
        return None
    try:
        number = int(nvml.nvmlSystemGetCudaDriverVersion_v2())
    except nvml.NVMLError:
        return Driver(version=version)
    # 13000 is CUDA 13.0 (nvml.h, NVML_CUDA_DRIVER_VERSION_MAJOR and _MINOR).
    return Driver(version=version, cuda=(number // 1000, number % 1000 // 10))


def _gpu(nvml: Nvml, card: Card, handle: Any, root: Path) -> Gpu:
    index, name = card.index, card.name
    if _mig_enabled(nvml, handle):
        raise HostUnavailable(
            f"GPU {index} ({name}) is split into MIG slices, which gpuserve cannot plan for",
            hint=f"turn MIG off: nvidia-smi -i {index} -mig 0",
        )
    total, free = _memory(nvml, index, name, handle)
    return Gpu(
        index=index,
        name=name,
        total_bytes=total,
        free_bytes=free,
        uuid=card.uuid,
        host=platform.node(),
        compute_capability=_compute_capability(nvml, handle),
        processes=_processes(nvml, handle, root),
        compute_mode=_compute_mode(nvml, handle),
        display=_display(nvml, handle),
        ecc_changes=_ecc_changes(nvml, handle),
        bus="{:04x}:{:02x}:{:02x}".format(*_bus_place(nvml.nvmlDeviceGetPciInfo(handle))),
    )


def _compute_mode(nvml: Nvml, handle: Any) -> ComputeMode:
    try:
        mode = int(nvml.nvmlDeviceGetComputeMode(handle))
    except nvml.NVMLError:
        return "default"
    if mode in COMPUTE_EXCLUSIVE:
        return "exclusive"
    return "prohibited" if mode == COMPUTE_PROHIBITED else "default"


def _display(nvml: Nvml, handle: Any) -> bool:
    try:
        return bool(nvml.nvmlDeviceGetDisplayActive(handle))
    except nvml.NVMLError:
        return False


def _ecc_changes(nvml: Nvml, handle: Any) -> bool:
    try:
        current, pending = nvml.nvmlDeviceGetEccMode(handle)
    except nvml.NVMLError:
        return False  # the card has none
    return bool(current) != bool(pending)


def _memory(nvml: Nvml, index: int, name: str, handle: Any) -> tuple[int, int]:
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
        return int(memory.total) - int(memory.reserved), int(memory.free)
    except nvml.NVMLError:
        pass  # a driver older than 510 knows the first structure only, without `reserved`
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError as error:
        raise HostUnavailable(
            f"the memory of GPU {index} ({name}) cannot be read: {error}",
            hint="a GPU that shares its memory with the host is not supported",
        ) from error
    return int(memory.total), int(memory.free)


def _mig_enabled(nvml: Nvml, handle: Any) -> bool:
    try:
        current, _pending = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError as error:
        if code_of(error) == NOT_SUPPORTED:
            return False
        raise
    return bool(current)


def _compute_capability(nvml: Nvml, handle: Any) -> tuple[int, int] | None:
    try:
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    except nvml.NVMLError:
        return None
    return int(major), int(minor)


def _processes(nvml: Nvml, handle: Any, root: Path) -> tuple[GpuProcess, ...]:
    used: dict[int, int] = {}
    for read in (
        nvml.nvmlDeviceGetComputeRunningProcesses,
        nvml.nvmlDeviceGetGraphicsRunningProcesses,
    ):
        try:
            found = read(handle)
        except nvml.NVMLError:
            continue  # not every driver lists them; the free memory is known all the same
        for process in found:
            # A process that is on both lists is listed with the same figure.
            used[int(process.pid)] = int(process.usedGpuMemory or 0)
    return tuple(
        GpuProcess(pid=pid, used_bytes=count, name=_process_name(pid, root))
        for pid, count in sorted(used.items())
    )


def _process_name(pid: int, root: Path) -> str | None:
    # Not NVML's name for it: that is the executable, and vLLM's workers set a title.
    try:
        words = (root / "proc" / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    return b" ".join(words).decode(errors="replace").strip()[:100] or None


def _give_up(error: Exception) -> NoReturn:
    code = code_of(error)
    if code == LIB_RM_VERSION_MISMATCH:
        raise HostUnavailable(
            "the NVIDIA driver was upgraded but the running kernel still has the old one "
            f"(NVML: {error})",
            hint="reboot, or unload and load the nvidia kernel modules",
        ) from error
    if code == DRIVER_NOT_LOADED:
        raise HostUnavailable(
            "there is an NVIDIA GPU, but its driver is not loaded",
            hint='`nvidia-smi` and `dmesg` say why; [engine] device = "cpu" does without it',
        ) from error
    if code == GPU_IS_LOST:
        raise HostUnavailable(
            f"a GPU fell off the bus (NVML: {error})",
            hint="`dmesg | grep Xid` says which; it needs a reset or a reboot",
        ) from error
    raise HostUnavailable(
        f"the NVIDIA driver does not answer (NVML: {error})", hint="see what `nvidia-smi` says"
    ) from error


def _nvidia_on_the_bus(root: Path) -> bool:
    for device in (root / "sys" / "bus" / "pci" / "devices").glob("*"):
        try:
            vendor = (device / "vendor").read_text().strip()
            kind = (device / "class").read_text().strip()
        except OSError:
            continue
        if vendor == _NVIDIA_VENDOR and kind.startswith(_DISPLAY_CLASS):
            return True
    return False


def _bus_place(pci: Any) -> tuple[int, int, int]:
    return int(pci.domain), int(pci.bus), int(pci.device)
