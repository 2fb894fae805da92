"""A device whose memory is a directory, shared by fake engines, a stand-in NVML and the tests.

The environment variable FAKE_DEVICE names the directory. What holds memory, and who may not be
alive at the same time as whom, is told by flock(2): a lock lives as long as one process of the
tree that inherited it, whoever of them is killed, so neither can be forgotten. Locks held:

engines/MODEL   by the whole tree of an engine; a second tree of the same model is a violation
held/DEVICE/…   by the whole tree; the file says how many bytes
load/DEVICE     while an engine loads; a second load on the device is a violation
ending/DEVICE   (shared) from SIGTERM to the end of the tree; a load meanwhile is a violation

Standard library only: engines and the stand-in NVML import it by path.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
CARD = {"name": "NVIDIA L4", "total_mib": 23_034, "reserved_mib": 450}


@dataclass(frozen=True)
class Device:
    """The directory. Give `environment` to whatever shall use it."""

    root: Path

    def prepare(self, cards: int = 0) -> None:
        """Make the directory, with so many GPUs."""
        for name in ("engines", "held", "load", "ending", "knobs"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / "cards.json").write_text(json.dumps([CARD] * cards))

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that make engines and NVML use this device."""
        return {"FAKE_DEVICE": str(self.root), "PYTHONPATH": str(Path(__file__).parent)}

    @property
    def cards(self) -> list[dict[str, int | str]]:
        """The GPUs."""
        found: list[dict[str, int | str]] = json.loads((self.root / "cards.json").read_text())
        return found

    def break_driver(self, error: int | None) -> None:
        """Have NVML answer everything with *error* (nvmlReturn_t), or work again."""
        path = self.root / "error"
        if error is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(str(error))

    @property
    def driver_error(self) -> int | None:
        """The error that NVML answers with, None while it works."""
        try:
            return int((self.root / "error").read_text())
        except (OSError, ValueError):
            return None

    def knobs(self, model: str, **knobs: object) -> None:
        """Set what the next start of *model* reads besides its own knobs; none clears them."""
        path = self.root / "knobs" / model
        if knobs:
            draft = path.with_name(model + ".new")
            draft.write_text(json.dumps(knobs))
            draft.replace(path)
        else:
            path.unlink(missing_ok=True)

    def holders(self, device: str) -> Iterator[tuple[int, int]]:
        """Yield (pid, bytes) of everything that holds memory on *device* now."""
        place = self.root / "held" / device
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            try:
                with path.open() as file:
                    if _is_held(file.fileno()):
                        held = json.loads(file.read())
                        yield int(held["pid"]), int(held["bytes"])
            except (OSError, ValueError):
                continue  # it has just come, or gone

    def used_bytes(self, device: str) -> int:
        """Return what is held on *device*."""
        return sum(size for _, size in self.holders(device))

    def hold(self, device: str, size: int, pid: int | None = None) -> int:
        """Hold *size* bytes on *device* until every copy of the returned descriptor is closed."""
        place = self.root / "held" / device
        place.mkdir(exist_ok=True)
        name = f"{os.getpid()}-{time.monotonic_ns()}"
        draft = self.root / "held" / name
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT)
        os.write(descriptor, json.dumps({"pid": pid or os.getpid(), "bytes": size}).encode())
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        draft.rename(place / name)
        return descriptor

    def take(self, kind: str, name: str) -> tuple[int, bool]:
        """Return a descriptor of the lock *kind*/*name*, and whether it could be had."""
        descriptor = os.open(self.root / kind / name, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return descriptor, False
        return descriptor, True

    def note(self, event: str, model: str) -> None:
        """Append one event to the record; `violation: …` are what must never happen."""
        line = json.dumps(
            {"at_s": time.monotonic(), "event": event, "model": model, "pid": os.getpid()}
        )
        with (self.root / "events").open("a") as file:
            file.write(line + "\n")

    def events(self) -> list[dict[str, object]]:
        """Return what was noted so far."""
        try:
            lines = (self.root / "events").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines]

    def violations(self) -> list[dict[str, object]]:
        """Return what happened and must not."""
        return [e for e in self.events() if str(e["event"]).startswith("violation")]


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


class Use:
    """How one fake engine uses its device, from its first moment to its last process."""

    def __init__(self, device: Device, model: str, devices: tuple[str, ...]) -> None:
        self._device = device
        self._model = model
        self._devices = devices
        self._loading: list[int] = []
        self._ending: list[int] = []
        self.inherited: list[int] = []  # descriptors for the whole tree

    def begin(self) -> None:
        """Note the start, and whatever it must not coincide with."""
        self._device.note("start", self._model)
        tree, alone = self._device.take("engines", self._model)
        self.inherited.append(tree)
        if not alone:
            self._device.note("violation: an earlier process of it still lives", self._model)
        for device in self._devices:
            load, alone = self._device.take("load", device)
            self._loading.append(load)
            if not alone:
                self._device.note(f"violation: two load on {device}", self._model)
            ending, still = self._device.take("ending", device)
            if not still:
                self._device.note(f"violation: loads while one ends on {device}", self._model)
            fcntl.flock(ending, fcntl.LOCK_UN)
            self._ending.append(ending)
            self.inherited.append(ending)

    def allocate(self, fraction: float, pid: int) -> str | None:
        """Hold the fraction of each GPU; return vLLM's refusal if it is not free."""
        for device in self._devices:
            if not device.startswith("gpu"):
                continue
            card = self._device.cards[int(device[3:])]
            total = (int(card["total_mib"]) - int(card["reserved_mib"])) * MIB
            free = total - self._device.used_bytes(device)
            wanted = int(total * fraction)
            if free < wanted:
                return (
                    f"ValueError: Free memory on device cuda:0 ({free / 2**30:.2f}/"
                    f"{total / 2**30:.2f} GiB) on startup is less than desired GPU memory "
                    f"utilization ({fraction}, {wanted / 2**30:.2f} GiB). Decrease GPU memory "
                    "utilization or reduce GPU memory used by other processes."
                )
            self.inherited.append(self._device.hold(device, wanted, pid))
        return None

    def loaded(self) -> None:
        """Loading is over."""
        self._device.note("ready", self._model)
        while self._loading:
            os.close(self._loading.pop())

    def asked(self) -> None:
        """Note the first request."""
        self._device.note("request", self._model)

    def end(self) -> None:
        """SIGTERM was taken: from here to the end of the tree memory moves."""
        self._device.note("SIGTERM", self._model)
        for ending in self._ending:
            fcntl.flock(ending, fcntl.LOCK_SH)

    def ended(self) -> None:
        """Note a planned end."""
        self._device.note("end", self._model)


def of_environment() -> Device | None:
    """Return the device that the environment names."""
    root = os.environ.get("FAKE_DEVICE")
    return Device(Path(root)) if root else None
