"""What the engines of the instance in a run directory hold: memory that a new plan may count on.

They are the descendants of its keeper, whoever started them.
"""

import os
from dataclasses import replace
from pathlib import Path

from gpuserve.machine.instance import running
from gpuserve.machine.processes import descendants, everything
from gpuserve.readings import Gpu, Machine
from gpuserve.rundir import RunDir


def with_own_memory_free(machine: Machine, run_dir: RunDir) -> Machine:
    """Return *machine* with what this instance's processes hold counted as free.

    Unchanged when nothing runs there, or nothing that this user may look at.
    """
    try:
        instance = running(run_dir)
    except PermissionError:
        return machine
    if instance is None:
        return machine
    own = {process.pid for process in descendants(instance.keeper_pid, everything())}
    host = machine.host
    available = host.ram_available_bytes + sum(map(_private_bytes, own))
    return replace(
        machine,
        gpus=tuple(_freed(gpu, own) for gpu in machine.gpus),
        host=replace(host, ram_available_bytes=min(host.ram_total_bytes, available)),
    )


def _freed(gpu: Gpu, own: set[int]) -> Gpu:
    held = sum(process.used_bytes for process in gpu.processes if process.pid in own)
    return replace(
        gpu,
        free_bytes=min(gpu.total_bytes, gpu.free_bytes + held),
        processes=tuple(process for process in gpu.processes if process.pid not in own),
    )


def _private_bytes(pid: int) -> int:
    """Resident memory that no other process shares: proc_pid_statm(5)."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
