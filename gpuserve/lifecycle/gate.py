"""The GPU gate: one engine per GPU moves memory at a time.

vLLM sizes its KV cache by measuring the whole device while it starts, so two that start
together charge each other's memory to themselves (vllm-project/vllm#55827), and memory that
a neighbour frees meanwhile aborts the start (vllm-project/vllm#56830).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpuserve.readings import GpuProcess, holders
from gpuserve.units import MIB, gib

# Two readings of free memory closer than this are the same: drivers and display servers
# come and go with a few MiB.
SETTLED_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiter:
    """An engine that waits to start: the devices it moves memory on and what it needs there.

    `needs` are pairs of a gate key ("gpu0", or "cpu") and the bytes that must be free there:
    the budget that vLLM checks plus the context that it makes before it checks. Cards may
    differ, and vLLM takes its fraction of each (v1/worker/utils.py, request_memory).
    """

    name: str
    needs: tuple[tuple[str, int], ...]

    @property
    def devices(self) -> tuple[str, ...]:
        """The gate keys alone."""
        return tuple(device for device, _ in self.needs)


@dataclass(frozen=True, slots=True)
class Free:
    """Free memory of one device, read now and a moment ago; None: it could not be read.

    `fault` says why it could not; `others` are processes there that are not ours.
    """

    now_bytes: int | None
    before_bytes: int | None
    fault: str | None = None
    others: tuple[GpuProcess, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Who may start now, and why each of the others may not."""

    opened: tuple[str, ...]
    reasons: Mapping[str, str]


def decide(waiters: Sequence[Waiter], moving: Mapping[str, str], free: Mapping[str, Free]) -> Gate:
    """Return who starts now.

    *waiters* are in the order of their turn. *moving* maps a device to the engine that moves
    memory there now. A waiter that cannot start for lack of memory does not hold up another
    on the same device; one that waits for its turn does, so that a tensor-parallel engine,
    which needs several devices at once, gets them in the end.
    """
    taken = dict(moving)
    opened: list[str] = []
    reasons: dict[str, str] = {}
    for waiter in waiters:
        busy = next((d for d in waiter.devices if d in taken), None)
        if busy is not None:
            reasons[waiter.name] = f"waits for {taken[busy]} on {busy}"
            taken.update({d: waiter.name for d in waiter.devices if d not in taken})
            continue
        reason = _memory_reason(waiter, free)
        if reason is None:
            opened.append(waiter.name)
            taken.update(dict.fromkeys(waiter.devices, waiter.name))
        else:
            reasons[waiter.name] = reason
    return Gate(opened=tuple(opened), reasons=reasons)


def _memory_reason(waiter: Waiter, free: Mapping[str, Free]) -> str | None:
    """Return why *waiter* cannot have its memory now, or None if it can."""
    for device, needed_bytes in waiter.needs:
        reading = free.get(device)
        if reading is None or reading.now_bytes is None:
            why = reading.fault if reading is not None else None
            return why or f"cannot read the free memory of {device}"
        if (
            reading.before_bytes is None
            or abs(reading.now_bytes - reading.before_bytes) > SETTLED_BYTES
        ):
            return f"waits until the free memory of {device} has settled"
        if reading.now_bytes < needed_bytes:
            return (
                f"waits for memory on {device}: needs {gib(needed_bytes)}, "
                f"{gib(reading.now_bytes)} is free{_held_by(reading.others)}"
            )
    return None


def _held_by(others: Sequence[GpuProcess]) -> str:
    return f"; {holders(others)}" if others else ""
