"""The GPUs as a running instance sees them: what is free, who holds the rest, what is wrong.

Engines that run are never touched for what the driver says: they may go on for weeks where it
was upgraded under them. Only starts wait.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping

from gpuserve.controller.audit import Audit
from gpuserve.controller.threads import in_thread
from gpuserve.errors import GpuserveError
from gpuserve.lifecycle.audit import Why
from gpuserve.machine.nvml import library_was_replaced
from gpuserve.machine.processes import descendants, everything
from gpuserve.readings import Gpu, GpuProcess

# NVML answers within milliseconds; a driver that hangs must not hang whoever asks.
DRIVER_S = 10.0
# A GPU that is lost while nothing starts is noticed after this; its engine by its own probes.
LOOK_S = 30.0
_FRESH = "import os; from gpuserve.machine.gpus import see_gpus; see_gpus(os.environ)"

Reading = tuple[dict[str, Gpu], str | None]


class Cards:
    """Reads the GPUs. `fault` says why nothing can be placed on them now, None if it can."""

    def __init__(
        self, keeper_pid: int, wanted: Callable[[], Collection[str]], audit: Audit
    ) -> None:
        self._keeper_pid = keeper_pid
        self._wanted = wanted
        self._audit = audit
        self._reading: asyncio.Future[Reading] | None = None
        self._buses: dict[str, Gpu] = {}  # of the last reading that could be had
        self._heard: str | None = None  # what the kernel said last of a GPU that may be lost
        self.fault: str | None = None

    async def run(self) -> None:
        """Look every LOOK_S until cancelled, as long as there is an engine on a GPU."""
        while True:
            if self._wanted():
                await self.read()
            await asyncio.sleep(LOOK_S)

    async def read(self, within_s: float = DRIVER_S) -> Mapping[str, Gpu]:
        """Return one reading by gate key ("gpu0"); {} and a `fault` where it cannot be had."""
        if self._reading is None or self._reading.done():
            self._reading = in_thread(_read)
        reading = self._reading  # another caller may begin the next one as soon as this has ended
        done, _ = await asyncio.wait({reading}, timeout=within_s)
        if done:
            found, fault = reading.result()
        else:
            found = {}
            fault = (
                f"the NVIDIA driver does not answer ({within_s:g} s); see what `nvidia-smi` says"
            )
        gone = sorted(set(self._wanted()) - set(found)) if fault is None else []
        if gone:
            names = ", ".join(gone)
            why = self._heard or "`dmesg | grep Xid` says why"
            fault = f"the NVIDIA driver does not list {names} any more; {why}"
        elif fault is None:
            self._buses = {gpu.bus: gpu for gpu in found.values() if gpu.bus}
        self._tell(fault)
        return {} if fault else found

    def named(self, bus: str) -> str:
        """Return what to call the GPU at *bus* ("0000:65:00"): "GPU 1 (0000:65:00)", if known."""
        gpu = self._buses.get(bus)
        return f"the GPU at {bus}" if gpu is None else f"GPU {gpu.index} ({bus})"

    def heard(self, why: str | None) -> None:
        """Remember what the kernel said of a GPU that may be lost, for when the driver loses it."""
        self._heard = why or self._heard

    def others(self, gpu: Gpu) -> tuple[GpuProcess, ...]:
        """Return the processes on *gpu* that are not of this instance, the largest first."""
        own = {process.pid for process in descendants(self._keeper_pid, everything())}
        found = (process for process in gpu.processes if process.pid not in own)
        return tuple(sorted(found, key=lambda process: -process.used_bytes))

    def _tell(self, fault: str | None) -> None:
        if fault == self.fault:
            return
        before, self.fault = self.fault, fault
        if fault is not None:
            told = f"{fault}. Engines that run are left alone; nothing is started on a GPU"
            self._audit.record("gpu_lost", Why(text=told, cause="driver"))
        elif before is not None:
            self._audit.record("gpu_back", Why(text="the driver lists every GPU again"))


def _read() -> Reading:
    """Read every GPU; return what is wrong with the driver instead if something is."""
    from gpuserve.machine.gpus import see_gpus

    try:
        found = {f"gpu{gpu.index}": gpu for gpu in see_gpus(os.environ).gpus}
    except GpuserveError as error:
        return {}, f"{error.message}: {error.hint}" if error.hint else error.message
    # Our own library is the one from before the upgrade and goes on working; a new engine's is not.
    return found, _fresh_fault() if library_was_replaced() else None


def _fresh_fault() -> str | None:
    """Return what a process that begins now would be told by the driver, None if all is well."""
    words = [sys.executable, "-P", "-c", _FRESH]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=DRIVER_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return "the NVIDIA driver was upgraded under this instance and does not answer: reboot"
    if done.returncode == 0:
        return None
    said = (done.stderr.strip().splitlines() or ["it does not say why"])[-1]
    return f"the NVIDIA driver was upgraded under this instance ({said}): reboot"
