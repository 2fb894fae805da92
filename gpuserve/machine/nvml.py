"""The part of NVML that is used, its error codes, and how its odd answers are read."""

from pathlib import Path
from typing import Any, Protocol

# nvml.h, enum nvmlReturn_t
NOT_SUPPORTED = 3
DRIVER_NOT_LOADED = 9
LIBRARY_NOT_FOUND = 12
GPU_IS_LOST = 15
LIB_RM_VERSION_MISMATCH = 18

# nvml.h, enum nvmlComputeMode_t; 1 (exclusive thread) is gone since CUDA 8.
COMPUTE_EXCLUSIVE = (1, 3)
COMPUTE_PROHIBITED = 2


class Nvml(Protocol):
    """The part of NVML that is used; the module pynvml has it."""

    NVMLError: type[Exception]
    nvmlMemory_v2: int  # noqa: N815 - NVML's name

    def nvmlInit(self) -> Any: ...  # noqa: N802, D102 - NVML's names, here and below
    def nvmlShutdown(self) -> Any: ...  # noqa: N802, D102
    def nvmlDeviceGetCount(self) -> Any: ...  # noqa: N802, D102
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...  # noqa: N802, D102
    def nvmlDeviceGetPciInfo(self, handle: Any) -> Any: ...  # noqa: N802, D102
    def nvmlDeviceGetName(self, handle: Any) -> Any: ...  # noqa: N802, D102
    def nvmlDeviceGetUUID(self, handle: Any) -> Any: ...  # noqa: N802, D102
    def nvmlDeviceGetMemoryInfo(self, handle: Any, version: Any = None) -> Any: ...  # noqa: N802, D102
    def nvmlDeviceGetMigMode(self, handle: Any) -> Any: ...  # noqa: N802, D102
    def nvmlDeviceGetCudaComputeCapability(self, handle: Any) -> Any: ...  # noqa: N802, D102
    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> Any: ...  # noqa: N802, D102
    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: Any) -> Any: ...  # noqa: N802, D102
    def nvmlDeviceGetComputeMode(self, handle: Any) -> Any: ...  # noqa: N802, D102
    def nvmlDeviceGetDisplayActive(self, handle: Any) -> Any: ...  # noqa: N802, D102
    def nvmlDeviceGetEccMode(self, handle: Any) -> Any: ...  # noqa: N802, D102
    def nvmlSystemGetDriverVersion(self) -> Any: ...  # noqa: N802, D102
    def nvmlSystemGetCudaDriverVersion_v2(self) -> Any: ...  # noqa: N802, D102


def library_was_replaced(maps: Path = Path("/proc/self/maps")) -> bool:
    """Return whether the NVML library that this process uses is no longer the one on the disk.

    A package that upgrades the driver replaces the file; the kernel's module changes only with
    a reboot. This process keeps the old library, one that starts gets the new one.
    """
    try:
        lines = maps.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any("libnvidia-ml.so" in line and line.endswith("(deleted)") for line in lines)


def code_of(error: Exception) -> int | None:
    """Return the nvmlReturn_t of *error*; None where it carries none."""
    code = getattr(error, "value", None)
    return code if isinstance(code, int) else None


def text_of(value: str | bytes) -> str:
    """Return *value* as text: bindings up to 11.5 give bytes."""
    return value.decode() if isinstance(value, bytes) else value
