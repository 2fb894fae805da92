"""A stand-in for NVML: the GPUs of the directory that FAKE_DEVICE names.

Put on PYTHONPATH it takes the place of nvidia-ml-py in every process of an instance.
"""
# ruff: noqa: N802, N816 - NVML's own names

import time
from types import SimpleNamespace
from typing import Any

import fake_device  # type: ignore[import-not-found]  # beside this file, on PYTHONPATH

nvmlMemory_v2 = 2
NVML_ERROR_NOT_SUPPORTED = 3
_HANG = -1  # not NVML's: a driver that does not answer


class NVMLError(Exception):
    """What NVML answers instead; `value` is its nvmlReturn_t."""

    def __init__(self, value: int) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


def _device() -> Any:
    device = fake_device.of_environment()
    error = device.driver_error
    while error == _HANG:
        time.sleep(0.1)
        error = device.driver_error
    if error is not None:
        raise NVMLError(error)
    return device


def nvmlInit() -> None:
    _device()


def nvmlShutdown() -> None:
    pass


def nvmlDeviceGetCount() -> int:
    return len(_device().cards)


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    return index


def nvmlDeviceGetPciInfo(index: int) -> Any:
    return SimpleNamespace(domain=0, bus=index + 1, device=0)


def nvmlDeviceGetName(index: int) -> str:
    return str(_device().cards[index]["name"])


def nvmlDeviceGetUUID(index: int) -> str:
    return f"GPU-{index}"


def nvmlDeviceGetMemoryInfo(index: int, version: Any = None) -> Any:
    device = _device()
    card = device.cards[index]
    total, reserved = (int(card[key]) * fake_device.MIB for key in ("total_mib", "reserved_mib"))
    free = total - reserved - device.used_bytes(f"gpu{index}")
    return SimpleNamespace(total=total, reserved=reserved, free=free, used=total - free)


def nvmlDeviceGetMigMode(index: int) -> list[int]:
    raise NVMLError(NVML_ERROR_NOT_SUPPORTED)


def nvmlDeviceGetCudaComputeCapability(index: int) -> tuple[int, int]:
    return 8, 9


def nvmlDeviceGetComputeRunningProcesses(index: int) -> list[Any]:
    held = _device().holders(f"gpu{index}")
    return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in held]


def nvmlDeviceGetGraphicsRunningProcesses(index: int) -> list[Any]:
    return []


def __getattr__(name: str) -> Any:
    """Answer what else NVML has as a driver does that does not support it."""
    if not name.startswith("nvml"):
        raise AttributeError(name)

    def refuse(*_: Any, **__: Any) -> Any:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)

    return refuse
