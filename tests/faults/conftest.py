"""Instances to break: fake engines with the process tree of vLLM, on a stand-in for a device."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from gpuserve.machine.control import Control, ControllerSilent
from gpuserve.rundir import RunDir
from scripts.leftovers import is_alive
from tests.e2e.instance import until
from tests.faults.stand_in.fake_device import Device
from tests.integration.instance.box import Box
from tests.integration.instance.conftest import box

__all__ = ["box"]

# As vLLM: the core ends on SIGTERM, its worker holds the memory and calls setsid, and the server
# ends with status 0 when its core is gone.
TREE = {"core_obeys": True, "worker": True, "watch_core": True}
ROLES = ("shim", "server", "core", "worker")


@dataclass
class Lab:
    """One instance and its device, with what the tests ask and do again and again."""

    box: Box
    device: Device

    @property
    def control(self) -> Control:
        return Control(RunDir(self.box.instance.run_dir))

    def status(self) -> Any:
        """Return the status, asked without starting a command."""
        return self.control.status()

    def model(self, name: str) -> Any:
        return next(model for model in self.status()["models"] if model["name"] == name)

    def tree(self, name: str) -> dict[str, psutil.Process]:
        """Return the processes of an engine by role."""
        model = self.model(name)
        shim = psutil.Process(model["shim_pid"])
        found = {"shim": shim, "server": psutil.Process(model["pid"])}
        for process in shim.children(recursive=True):
            for role in ("core", "worker"):
                if f"fake-engine-{role}" in process.cmdline():
                    found[role] = process
        assert set(found) == set(ROLES), found
        return found

    def program(self, word: str) -> psutil.Process:
        """Return the one process of the instance whose command line holds *word*."""
        return psutil.Process(self.box.pid_of(word))

    def worker(self, slot: int = 1) -> psutil.Process:
        """Return the router process in *slot*."""
        words = ["-m", "gpuserve.router", str(self.box.instance.run_dir), str(slot)]
        (found,) = (p for p in self.box.processes() if p.cmdline()[-4:] == words)
        return found

    def until_ready(self, *names: str, timeout_s: float = 60.0) -> None:
        """Wait until these models, or all, are Ready."""
        until(
            self.says(
                lambda status: all(
                    m["ready"] for m in status["models"] if not names or m["name"] in names
                )
            ),
            f"{names or 'all'} ready",
            timeout_s=timeout_s,
        )

    def says(self, holds: Callable[[Any], bool]) -> Callable[[], bool]:
        """Return whether the status holds that, False while there is none."""

        def look() -> bool:
            with suppress(ControllerSilent):
                return holds(self.status())
            return False

        return look

    def must_be_sound(self) -> None:
        """Fail if two engines moved memory at once, or one started before its last was gone."""
        assert self.device.violations() == []


def ended(processes: Any) -> bool:
    """Return whether none of *processes* lives."""
    return not any(is_alive(process) for process in processes)


@pytest.fixture
def lab(box: Box, tmp_path: Path) -> Iterator[Lab]:
    """Two models on one stand-in for a device without memory; nothing runs yet."""
    device = Device(tmp_path / "device")
    device.prepare()
    box.environment = device.environment
    box.knobs = {name: dict(TREE) for name in box.names}
    made = Lab(box, device)
    yield made
    made.must_be_sound()


@pytest.fixture
def gpu_lab(lab: Lab) -> Lab:
    """Two models that share one stand-in for a GPU of 22 GiB."""
    lab.device.prepare(cards=1)
    lab.box.engine = {"device": "auto"}
    lab.box.size = "gpu_memory_utilization = 0.4"
    return lab
