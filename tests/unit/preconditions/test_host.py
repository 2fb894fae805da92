"""RAM, shared memory and disks that a profile needs and the host lacks."""

from dataclasses import replace

from gpuserve.preconditions.host import (
    LOG_BYTES,
    RING_BYTES,
    download_problem,
    log_problem,
    memory_problems,
    shared_memory_problem,
)
from gpuserve.readings import Disk
from gpuserve.units import GIB, MIB
from tests.unit.memory.models import machine, model

HOST = replace(machine(ram_gib=64).host, shm_bytes=64 * MIB)


def test_offloaded_weights_must_fit_into_ram() -> None:
    spec = model("a", cpu_offload_gb=20.0, tensor_parallel_size=2)
    assert list(memory_problems([(spec, 60 * GIB)], HOST)) == []
    wide = replace(spec, tensor_parallel_size=4)
    (problem,) = memory_problems([(wide, 80 * GIB)], HOST)
    assert not problem.warning
    assert "80.00 GiB" in problem.message
    assert problem.where == "model[0].cpu_offload_gb"
    (now,) = memory_problems([(spec, 0)], replace(HOST, ram_available_bytes=30 * GIB))
    assert now.warning
    unstated = replace(HOST, ram_total_bytes=0)
    assert list(memory_problems([(wide, 80 * GIB)], unstated)) == []


def test_engines_that_sleep_leave_their_weights_in_ram() -> None:
    sleeper = model("a", extra_args=("--enable-sleep-mode",))
    pair = [(sleeper, 40 * GIB), (replace(sleeper, index=1), 20 * GIB)]
    assert list(memory_problems(pair, HOST)) == []
    (problem,) = memory_problems([*pair, (replace(sleeper, index=2), 8 * GIB)], HOST)
    assert problem.warning
    assert "68.00 GiB" in problem.message


def test_engines_of_several_gpus_need_shared_memory() -> None:
    wide = model("a", tensor_parallel_size=2)
    problem = shared_memory_problem([wide], HOST)
    assert problem is not None
    assert problem.where == "model[0].tensor_parallel_size"
    assert "160 MiB" in problem.message
    assert shared_memory_problem([model("a")], HOST) is None
    assert shared_memory_problem([wide], replace(HOST, shm_bytes=RING_BYTES)) is None
    two = [wide, replace(wide, index=1)]
    assert shared_memory_problem(two, replace(HOST, shm_bytes=RING_BYTES)) is not None
    assert shared_memory_problem(two, replace(HOST, shm_bytes=None)) is None


def test_what_must_be_fetched_must_fit_on_the_disk() -> None:
    disk = Disk(path="/cache", free_bytes=10 * GIB)
    assert download_problem({1: 9 * GIB}, disk, GIB) is None
    problem = download_problem({1: 6 * GIB, 2: 6 * GIB}, disk, GIB)
    assert problem is not None
    assert problem.where == "model[1].model"
    assert "12.00 GiB" in problem.message
    assert download_problem({}, replace(disk, free_bytes=0), GIB) is None
    assert download_problem({1: GIB}, None, GIB) is None


def test_a_disk_too_small_for_the_logs_is_a_warning() -> None:
    disk = Disk(path="/run", free_bytes=2 * LOG_BYTES)
    assert log_problem(2, disk) is None
    problem = log_problem(3, disk)
    assert problem is not None
    assert problem.warning
    assert "60 MiB" in problem.message
