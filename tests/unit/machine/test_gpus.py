"""GPUs are read through NVML as CUDA counts them, and what is broken is said."""
# ruff: noqa: N802, N815 - NVML's own names

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from gpuserve.errors import ExitStatus, HostUnavailable
from gpuserve.machine.gpus import read_gpus, see_gpus
from gpuserve.machine.nvml import library_was_replaced
from gpuserve.readings import GpuProcess
from gpuserve.units import MIB


class Card(SimpleNamespace):
    """One GPU of the stand-in for NVML; `refuse` maps a function to the error it answers with."""

    bus: int = 1
    name: str | bytes = "NVIDIA RTX PRO 6000"
    uuid = "GPU-1"
    # What nvidia-smi prints for this card, and what its driver keeps back.
    total = 97_887 * MIB
    reserved = 639 * MIB
    used = 1_000 * MIB
    mig: tuple[int, int] | None = None
    compute: tuple[tuple[int, int | None], ...] = ()
    graphics: tuple[tuple[int, int | None], ...] = ()
    first_structure_only = False
    compute_mode: int | None = 0
    display = 0
    ecc: tuple[int, int] | None = None


class Library:
    """NVML with some cards, answering as the real one does."""

    NVMLError = pynvml.NVMLError
    nvmlMemory_v2 = pynvml.nvmlMemory_v2

    def __init__(self, *cards: Card, init_error: int | None = None) -> None:
        self.cards = cards
        self.init_error = init_error
        self.open = 0
        self.silent_about_cuda = False

    def nvmlInit(self) -> None:
        if self.init_error is not None:
            raise pynvml.NVMLError(self.init_error)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        return self.cards[index]

    def nvmlDeviceGetPciInfo(self, card: Card) -> Any:
        return SimpleNamespace(domain=0, bus=card.bus, device=0)

    def nvmlDeviceGetName(self, card: Card) -> str | bytes:
        return card.name

    def nvmlDeviceGetUUID(self, card: Card) -> str:
        return card.uuid

    def nvmlDeviceGetMemoryInfo(self, card: Card, version: Any = None) -> Any:
        if version is None:
            free = card.total - card.used - card.reserved
            return SimpleNamespace(total=card.total, free=free)
        if card.first_structure_only:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        free = card.total - card.reserved - card.used
        return SimpleNamespace(total=card.total, reserved=card.reserved, free=free)

    def nvmlDeviceGetMigMode(self, card: Card) -> list[int]:
        if card.mig is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return list(card.mig)

    def nvmlDeviceGetCudaComputeCapability(self, card: Card) -> tuple[int, int]:
        return (12, 0)

    def nvmlDeviceGetComputeMode(self, card: Card) -> int:
        if card.compute_mode is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return card.compute_mode

    def nvmlDeviceGetDisplayActive(self, card: Card) -> int:
        return card.display

    def nvmlDeviceGetEccMode(self, card: Card) -> list[int]:
        if card.ecc is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return list(card.ecc)

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"580.65.06"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        if self.silent_about_cuda:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        return 13_010

    def nvmlDeviceGetComputeRunningProcesses(self, card: Card) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in card.compute]

    def nvmlDeviceGetGraphicsRunningProcesses(self, card: Card) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in card.graphics]


@pytest.fixture
def no_hardware(tmp_path: Path) -> Path:
    (tmp_path / "sys/bus/pci/devices").mkdir(parents=True)
    return tmp_path


def test_the_total_is_what_cuda_reports_and_not_what_nvidia_smi_prints() -> None:
    (gpu,) = read_gpus(Library(Card()))
    assert gpu.total_bytes == (97_887 - 639) * MIB
    assert f"{gpu.total_bytes / 2**30:.2f}" == "94.97"
    assert gpu.free_bytes == (97_887 - 639 - 1_000) * MIB
    assert gpu.compute_capability == (12, 0)
    assert gpu.uuid == "GPU-1"


def test_gpus_are_counted_in_pci_bus_order() -> None:
    library = Library(Card(bus=0x41, uuid="b"), Card(bus=0x01, uuid="a"), Card(bus=0xC1, uuid="c"))
    gpus = read_gpus(library)
    assert [(gpu.index, gpu.uuid) for gpu in gpus] == [(0, "a"), (1, "b"), (2, "c")]
    assert [gpu.bus for gpu in gpus] == ["0000:01:00", "0000:41:00", "0000:c1:00"]
    assert library.open == 0


def test_gpus_that_the_operator_hides_are_not_read_and_indices_stay_those_of_the_machine() -> None:
    split = Card(bus=1, uuid="GPU-a", mig=(1, 1))
    library = Library(split, Card(bus=2, uuid="GPU-b"), Card(bus=3, uuid="GPU-c"))
    seen = see_gpus({"CUDA_VISIBLE_DEVICES": "2,GPU-b"}, library)
    assert [(gpu.index, gpu.uuid) for gpu in seen.gpus] == [(1, "GPU-b"), (2, "GPU-c")]
    assert (seen.hidden, seen.doubts) == ((0,), ())
    with pytest.raises(HostUnavailable, match="MIG"):
        see_gpus({"CUDA_VISIBLE_DEVICES": "0"}, library)
    assert see_gpus({"CUDA_VISIBLE_DEVICES": ""}, library).gpus == ()


def test_a_driver_without_the_second_structure_still_gives_a_total() -> None:
    (gpu,) = read_gpus(Library(Card(first_structure_only=True)))
    assert gpu.total_bytes == 97_887 * MIB


def test_a_name_in_bytes_is_read() -> None:
    assert read_gpus(Library(Card(name=b"Tesla T4")))[0].name == "Tesla T4"


def test_processes_are_listed_once_with_their_names(tmp_path: Path) -> None:
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/cmdline").write_bytes(b"VLLM::EngineCore\0")
    card = Card(compute=((7, 5), (9, None)), graphics=((7, 5),))
    (gpu,) = read_gpus(Library(card), tmp_path)
    assert gpu.processes == (
        GpuProcess(pid=7, used_bytes=5, name="VLLM::EngineCore"),
        GpuProcess(pid=9, used_bytes=0, name=None),
    )


def test_a_box_without_a_driver_has_no_gpus(no_hardware: Path) -> None:
    for code in (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED):
        assert read_gpus(Library(init_error=code), no_hardware) == ()


def test_a_driver_without_gpus_gives_none() -> None:
    assert read_gpus(Library()) == ()


def test_a_gpu_whose_driver_is_not_loaded_is_not_overlooked(no_hardware: Path) -> None:
    device = no_hardware / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir()
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030000\n")
    with pytest.raises(HostUnavailable, match="driver is not loaded"):
        read_gpus(Library(init_error=pynvml.NVML_ERROR_DRIVER_NOT_LOADED), no_hardware)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "upgraded"),
        (pynvml.NVML_ERROR_GPU_IS_LOST, "fell off the bus"),
        (pynvml.NVML_ERROR_UNKNOWN, "does not answer"),
    ],
)
def test_a_broken_driver_is_unavailable_and_says_why(code: int, said: str) -> None:
    with pytest.raises(HostUnavailable, match=said) as caught:
        read_gpus(Library(init_error=code))
    assert caught.value.exit_status == ExitStatus.UNAVAILABLE
    assert caught.value.hint


def test_a_split_gpu_is_refused_with_the_way_out() -> None:
    library = Library(Card(mig=(0, 0)), Card(bus=2, mig=(1, 1)))
    with pytest.raises(HostUnavailable, match=r"GPU 1 .* MIG") as caught:
        read_gpus(library)
    assert "-i 1 -mig 0" in (caught.value.hint or "")
    assert library.open == 0


@pytest.mark.parametrize(
    ("number", "mode"),
    [(0, "default"), (1, "exclusive"), (3, "exclusive"), (2, "prohibited"), (None, "default")],
)
def test_who_may_use_a_gpu_is_read(number: int | None, mode: str) -> None:
    (gpu,) = read_gpus(Library(Card(compute_mode=number)))
    assert gpu.compute_mode == mode


def test_a_screen_and_a_change_of_ecc_are_seen() -> None:
    first, second = read_gpus(Library(Card(), Card(bus=2, display=1, ecc=(1, 0))))
    assert (first.display, first.ecc_changes) == (False, False)
    assert (second.display, second.ecc_changes) == (True, True)
    assert not read_gpus(Library(Card(ecc=(1, 1))))[0].ecc_changes


def test_the_driver_says_its_version_and_the_cuda_it_runs() -> None:
    library = Library(Card())
    driver = see_gpus({}, library).driver
    assert driver is not None
    assert (driver.version, driver.cuda) == ("580.65.06", (13, 1))
    library.silent_about_cuda = True
    driver = see_gpus({}, library).driver
    assert driver is not None
    assert driver.cuda is None


@pytest.mark.parametrize(("mark", "replaced"), [(" (deleted)", True), ("", False)])
def test_a_driver_upgraded_under_a_process_is_seen_by_its_mapped_library(
    tmp_path: Path, mark: str, replaced: bool
) -> None:
    maps = tmp_path / "maps"
    library = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.550.54.14"
    maps.write_text(
        "7f00-7f01 r-xp 00000000 08:01 1  /usr/lib/libc.so.6 (deleted)\n"
        f"7f02-7f03 r-xp 00000000 08:01 2  {library}{mark}\n"
    )
    assert library_was_replaced(maps) is replaced
    assert not library_was_replaced(tmp_path / "absent")
