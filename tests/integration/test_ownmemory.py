"""Memory that the running instance holds counts as free for the next plan of it."""

import os
import subprocess
import sys
from pathlib import Path

from gpuserve.machine.instance import Instance, write
from gpuserve.machine.ownmemory import with_own_memory_free
from gpuserve.machine.processes import read
from gpuserve.readings import Gpu, GpuProcess, Host, Machine
from gpuserve.rundir import RunDir
from gpuserve.units import GIB, MIB

HOLDS = "import sys; held = bytearray(64 << 20); print('ready', flush=True); sys.stdin.read()"


def machine(own: int, other: int) -> Machine:
    processes = (
        GpuProcess(pid=own, used_bytes=8 * GIB),
        GpuProcess(pid=other, used_bytes=4 * GIB),
    )
    gpu = Gpu(index=0, name="g", total_bytes=24 * GIB, free_bytes=12 * GIB, processes=processes)
    host = Host(ram_total_bytes=16 * GIB, ram_available_bytes=8 * GIB, cpus=2)
    return Machine(gpus=(gpu,), host=host)


def instance_of(pid: int) -> Instance:
    keeper = read(pid)
    assert keeper is not None
    return Instance(
        keeper_pid=pid,
        keeper_start_ticks=keeper.start_ticks,
        profile="/p.toml",
        url="http://127.0.0.1:8000",
        started_unix_s=0.0,
        version="0",
    )


def test_what_the_instance_s_processes_hold_is_free_and_what_others_hold_is_not(
    tmp_path: Path,
) -> None:
    run_dir = RunDir(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as engine:
        assert engine.stdin is not None
        assert engine.stdout is not None
        assert engine.stdout.readline() == b"ready\n"
        before = machine(engine.pid, os.getpid())
        assert with_own_memory_free(before, run_dir) == before
        # This test is the keeper: its child is an engine of the instance, itself is not.
        write(run_dir, instance_of(os.getpid()))
        after = with_own_memory_free(before, run_dir)
        engine.stdin.close()
    assert after.gpus[0].free_bytes == 20 * GIB
    assert [process.pid for process in after.gpus[0].processes] == [os.getpid()]
    grown = after.host.ram_available_bytes - before.host.ram_available_bytes
    assert grown >= 64 * MIB
