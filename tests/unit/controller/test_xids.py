"""What the kernel's log says of GPUs becomes events; a pipe stands in for /dev/kmsg."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gpuserve.controller.audit import Audit
from gpuserve.controller.cards import Cards
from gpuserve.controller.xids import Xids
from gpuserve.lifecycle.audit import Entry
from gpuserve.lifecycle.xid import Xid, read_xid
from gpuserve.machine.auditlog import AuditLog
from gpuserve.machine.kernellog import KernelLog
from gpuserve.machine.voice import Voice

FELL = (
    "NVRM: Xid (PCI:0000:65:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
)


@pytest.mark.parametrize(
    ("line", "xid"),
    [
        (FELL, ("0000:65:00", 79)),
        ("NVRM: Xid (PCI:00000000:C1:00): 31, pid=7, Ch 00000008", ("0000:c1:00", 31)),
        ("NVRM: Xid (0000:65:00): 48, An uncorrectable double bit error", ("0000:65:00", 48)),
        ("NVRM: Xid (PCI:0000:65:00.0): 99999", ("0000:65:00", 99999)),
        ("NVRM: GPU at PCI:0000:65:00: GPU-3f", None),
        ("NVRM: Xid (PCI:0000:65:00): lost", None),
        ("", None),
    ],
)
def test_a_line_is_an_error_or_it_is_not(line: str, xid: tuple[str, int] | None) -> None:
    found = read_xid(line)
    assert (None if found is None else (found.bus, found.number)) == xid


def test_what_the_driver_says_of_a_wild_write_is_told_whole() -> None:
    # Recorded on an H200 with driver 580.159.04.
    words = (
        "pid=3411, name=python3, channel 0x0000005a, intr 00000000. MMU Fault: ENGINE GRAPHICS "
        "GPC1 GPCCLIENT_T1_8 faulted @ 0x8f41_8fe00000. Fault is of type FAULT_PDE "
        "ACCESS_TYPE_VIRT_WRITE"
    )
    found = read_xid(f"NVRM: Xid (PCI:0000:00:06): 31, {words}")
    assert found == Xid(bus="0000:00:06", number=31, words=words)


def test_what_is_not_known_is_told_in_the_drivers_words() -> None:
    assert Xid(bus="0000:65:00", number=79).lost
    assert not Xid(bus="0000:65:00", number=31).lost
    assert Xid(bus="0000:65:00", number=777, words="something new").meaning == "something new"


class Scene:
    def __init__(self, folder: Path) -> None:
        self.log = folder / "kmsg"
        self.entries: list[Entry] = []
        self.heard = asyncio.Event()
        self.audit = Audit(AuditLog(folder / "events.jsonl"), Voice(os.getpid()))
        self.audit.listen(self._hear)
        self.cards = Cards(os.getpid(), set, self.audit)

    def _hear(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.heard.set()

    async def next(self) -> Entry:
        async with asyncio.timeout(30):
            await self.heard.wait()
        self.heard.clear()
        return self.entries[-1]

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[int]:
        """The log as a pipe, read from; yields where to write records."""
        os.mkfifo(self.log)
        writer = os.open(self.log, os.O_RDWR)  # so that no end is seen
        task = asyncio.create_task(Xids(self.cards, self.audit, self.log).run())
        try:
            yield writer
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            os.close(writer)


async def test_an_error_is_an_event_and_is_not_repeated(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    async with scene.reading() as writer:
        os.write(writer, b"6,1,1,-;usb 1-1: new device\n SUBSYSTEM=usb\n")
        os.write(writer, f"3,2,2,-;{FELL}\n".encode() * 3)
        entry = await scene.next()
        assert (entry.event, entry.cause, entry.urgency) == ("gpu_error", "xid", "warning")
        assert entry.figures == {"xid": 79, "bus": "0000:65:00"}
        assert entry.why is not None
        assert entry.why.startswith(
            "Xid 79 of the GPU at 0000:65:00: the GPU has fallen off the bus"
        )
        os.write(writer, b"3,3,3,-;NVRM: Xid (PCI:0000:65:00): 31, pid=9, MMU Fault\n")
        assert (await scene.next()).figures["xid"] == 31
    assert [entry.event for entry in scene.entries].count("gpu_error") == 2


async def test_a_log_that_may_not_be_read_is_told_once(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    await Xids(scene.cards, scene.audit, scene.log).run()
    (entry,) = scene.entries
    assert entry.event == "gpu_errors_unseen"
    assert str(scene.log) in (entry.why or "")


async def test_a_log_that_ends_is_told_once(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    os.mkfifo(scene.log)
    writer = os.open(scene.log, os.O_RDWR)
    task = asyncio.create_task(Xids(scene.cards, scene.audit, scene.log).run())
    os.write(writer, f"3,2,2,-;{FELL}\n".encode())
    assert (await scene.next()).event == "gpu_error"
    os.close(writer)
    async with asyncio.timeout(30):
        await task
    assert [entry.event for entry in scene.entries] == ["gpu_error", "gpu_errors_unseen"]


def test_a_flood_is_read_in_bounded_pieces(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    log = KernelLog(path)
    os.write(writer, b"6,1,1,-;x....\n" * 2048)  # 14 bytes each
    assert len(b"6,1,1,-;x....\n") * len(log.lines(at_most=1)) <= 8192 + 14
    assert len(log.lines()) >= 1400
    assert log.lines() == []
    log.close()
    os.close(writer)
