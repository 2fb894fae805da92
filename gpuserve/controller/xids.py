"""Tells what the kernel's log says of the GPUs, and has them looked at when one may be lost."""

import asyncio
import time
from pathlib import Path

from gpuserve.controller.audit import Audit
from gpuserve.controller.cards import Cards
from gpuserve.lifecycle.audit import Why
from gpuserve.lifecycle.xid import Xid, read_xid
from gpuserve.machine.kernellog import KernelLog

# A kernel that writes without end costs no more than a look for each of these.
_PAUSE_S = 0.5
# A GPU that repeats itself is told of once in so long.
_AGAIN_S = 60.0
_MOST_REMEMBERED = 256


class Xids:
    """Reads the log at *path* until cancelled."""

    def __init__(self, cards: Cards, audit: Audit, path: Path = Path("/dev/kmsg")) -> None:
        self._cards = cards
        self._audit = audit
        self._path = path
        self._told: dict[tuple[str, int], float] = {}

    async def run(self) -> None:
        """Tell of each error as it comes; tell once where the log cannot be read."""
        try:
            log = KernelLog(self._path)
        except OSError as error:
            self._unread(error.strerror or str(error))
            return
        loop = asyncio.get_running_loop()
        try:
            while True:
                readable = asyncio.Event()
                loop.add_reader(log, readable.set)
                try:
                    await readable.wait()
                finally:
                    loop.remove_reader(log)
                await self._take(log.lines())
                await asyncio.sleep(_PAUSE_S)
        except (OSError, EOFError) as error:
            self._unread(str(error) or "it has ended")
        finally:
            log.close()

    async def _take(self, lines: list[str]) -> None:
        found = [xid for line in lines if (xid := read_xid(line)) is not None]
        for xid in found:
            self._tell(xid)
        if any(xid.lost for xid in found):
            await self._cards.read()

    def _tell(self, xid: Xid) -> None:
        now, key = time.monotonic(), (xid.bus, xid.number)
        if now - self._told.get(key, -_AGAIN_S) < _AGAIN_S:
            return
        if len(self._told) >= _MOST_REMEMBERED:
            self._told.clear()
        self._told[key] = now
        whose = self._cards.named(xid.bus)
        text = told = f"Xid {xid.number} of {whose}: {xid.meaning}"
        if xid.words and xid.words != xid.meaning:
            text += f" ({xid.words})"
        self._audit.record(
            "gpu_error", Why(text=text, cause="xid", figures={"xid": xid.number, "bus": xid.bus})
        )
        self._cards.heard(told if xid.lost else None)

    def _unread(self, why: str) -> None:
        text = (
            f"{self._path}: {why}; errors of a GPU that only the kernel's log tells (Xid) are not "
            "seen here: `dmesg` has them"
        )
        self._audit.record("gpu_errors_unseen", Why(text=text))
