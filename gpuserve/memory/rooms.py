"""How much of each GPU is there to give: of the hardware, and right now."""

from collections.abc import Iterable
from dataclasses import dataclass

from gpuserve.errors import Problem
from gpuserve.profile.spec import UpstreamSpec
from gpuserve.readings import Gpu
from gpuserve.units import gib


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """One GPU and the bytes of it that may be given to engines."""

    gpu: Gpu
    available_bytes: int


def hardware_rooms(gpus: Iterable[Gpu], upstreams: Iterable[UpstreamSpec]) -> dict[int, Room]:
    """Return what each GPU holds when nobody but the stated upstreams uses it."""
    reserved = _reserved(upstreams)
    return {
        gpu.index: Room(
            gpu=gpu, available_bytes=max(0, gpu.total_bytes - reserved.get(gpu.index, 0))
        )
        for gpu in gpus
    }


def rooms_now(gpus: Iterable[Gpu], upstreams: Iterable[UpstreamSpec]) -> dict[int, Room]:
    """Return what each GPU has left beside what others hold now.

    An upstream that runs is part of what others hold, one that does not run yet is not: the
    larger of its reservation and that use is taken away.
    """
    reserved = _reserved(upstreams)
    rooms = {}
    for gpu in gpus:
        held = max(gpu.total_bytes - gpu.free_bytes, reserved.get(gpu.index, 0))
        rooms[gpu.index] = Room(gpu=gpu, available_bytes=max(0, gpu.total_bytes - held))
    return rooms


def overreserved(gpus: Iterable[Gpu], upstreams: Iterable[UpstreamSpec]) -> tuple[Problem, ...]:
    """Return one problem for each reservation that a GPU is too small for, beside those before."""
    left = {gpu.index: gpu.total_bytes for gpu in gpus}
    found = []
    for upstream in upstreams:
        wanted = upstream.reserve_bytes
        for index in upstream.gpus:
            if index in left and wanted > left[index]:
                found.append(
                    Problem(
                        where=f"upstream[{upstream.index}].reserve",
                        message=f"{gib(wanted)} are reserved on GPU {index}, which has "
                        f"{gib(max(0, left[index]))} for it: short by "
                        f"{gib(wanted - max(0, left[index]))}",
                        hint="reserve what the server really holds; `nvidia-smi` shows it",
                    )
                )
            left[index] = left.get(index, 0) - wanted
    return tuple(found)


def _reserved(upstreams: Iterable[UpstreamSpec]) -> dict[int, int]:
    reserved: dict[int, int] = {}
    for upstream in upstreams:
        for index in upstream.gpus:
            reserved[index] = reserved.get(index, 0) + upstream.reserve_bytes
    return reserved
