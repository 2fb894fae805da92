"""What a profile asks of the host beside its GPUs: RAM, shared memory, disks."""

from collections.abc import Iterator, Mapping, Sequence

from gpuserve.errors import Problem
from gpuserve.preconditions.build import option_of
from gpuserve.profile.spec import ModelSpec
from gpuserve.readings import Disk, Host
from gpuserve.units import GIB, MIB, gib

# The ring through which vLLM's API process talks to the workers of a tensor- or
# pipeline-parallel engine: 10 chunks (shm_broadcast.py, MessageQueue) of
# VLLM_MQ_MAX_CHUNK_BYTES_MB, 16 by default (envs.py).
RING_BYTES = 10 * 16 * MIB
# Two files of 10 MiB, the current one and the one before it, for each engine (shim/log.py).
LOG_BYTES = 2 * 10 * MIB
# Room that a fetch leaves on the disk, for the cache's own files and for logs.
SPARE_BYTES = 256 * MIB


def memory_problems(models: Sequence[tuple[ModelSpec, int]], host: Host) -> Iterator[Problem]:
    """Yield what does not fit into the host's RAM.

    *models* are pairs of a model and the bytes of weights on all its ranks. Weights that are
    offloaded stand in host memory all the time; those of an engine that may sleep are copied
    there when it does (level 1). A host whose RAM is not stated (0) is not doubted.
    """
    if not host.ram_total_bytes:
        return
    offloaded = {spec.index: _offloaded_bytes(spec) for spec, _ in models}
    asleep = {spec.index: weights for spec, weights in models if _may_sleep(spec)}
    needed = sum(offloaded.values())
    if needed > host.ram_total_bytes:
        first = next(spec for spec, _ in models if offloaded[spec.index])
        yield Problem(
            where=f"model[{first.index}].cpu_offload_gb",
            message=f"{gib(needed)} of weights are to stand in host memory, which is "
            f"{gib(host.ram_total_bytes)}",
            hint="offload less, or use a smaller checkpoint",
        )
    elif needed > host.ram_available_bytes:
        first = next(spec for spec, _ in models if offloaded[spec.index])
        yield Problem(
            where=f"model[{first.index}].cpu_offload_gb",
            message=f"{gib(needed)} of weights are to stand in host memory, of which "
            f"{gib(host.ram_available_bytes)} are free now",
            warning=True,
        )
    if asleep and needed + sum(asleep.values()) > host.ram_total_bytes:
        index = next(iter(asleep))
        yield Problem(
            where=f"model[{index}].extra_args",
            message=f"asleep, its weights would move to host memory: {gib(sum(asleep.values()))} "
            f"beside {gib(needed)} that stand there already, of {gib(host.ram_total_bytes)}",
            hint="wake one before another sleeps, or use level 2, which drops the weights",
            warning=True,
        )


def shared_memory_problem(specs: Sequence[ModelSpec], host: Host) -> Problem | None:
    """Return a problem where /dev/shm is too small for engines of several ranks, else None."""
    wide = [spec for spec in specs if _ranks(spec) > 1]
    needed = RING_BYTES * len(wide)
    if not wide or host.shm_bytes is None or host.shm_bytes >= needed:
        return None
    return Problem(
        where=f"model[{wide[0].index}].tensor_parallel_size",
        message=f"shared memory (/dev/shm) holds {host.shm_bytes // MIB} MiB; engines of "
        f"several GPUs talk through it and need {needed // MIB} MiB here: they end with a bus "
        "error under load",
        hint="in a container: --shm-size=1g or --ipc=host",
    )


def download_problem(
    sizes: Mapping[int, int], disk: Disk | None, spare_bytes: int
) -> Problem | None:
    """Return a problem where *disk* cannot hold what must be fetched, else None.

    *sizes* maps the index of each model whose weights are not here to their bytes;
    *spare_bytes* stay free.
    """
    needed = sum(sizes.values())
    if disk is None or not needed or needed + spare_bytes <= disk.free_bytes:
        return None
    return Problem(
        where=f"model[{min(sizes)}].model",
        message=f"about {gib(needed)} must be fetched into {disk.path}, which has "
        f"{gib(disk.free_bytes)} free",
        hint="make room there, or set HF_HOME to a larger disk",
    )


def log_problem(engines: int, disk: Disk | None) -> Problem | None:
    """Return a warning where the logs of *engines* may fill their *disk*, else None."""
    needed = engines * LOG_BYTES
    if disk is None or not engines or disk.free_bytes >= needed:
        return None
    return Problem(
        message=f"{disk.path} has {disk.free_bytes // MIB} MiB free; the logs of {engines} "
        f"engine{'s' if engines > 1 else ''} take up to {needed // MIB} MiB. The engines go on "
        "when it is full, without logs",
        hint="make room there, or put the run directory elsewhere with --run-dir",
        warning=True,
    )


def _ranks(spec: ModelSpec) -> int:
    return spec.tensor_parallel_size * spec.pipeline_parallel_size


def _offloaded_bytes(spec: ModelSpec) -> int:
    # --cpu-offload-gb is per GPU, and its GB are GiB (vllm/config/offload.py).
    return int((spec.cpu_offload_gb or 0) * GIB) * _ranks(spec)


def _may_sleep(spec: ModelSpec) -> bool:
    return any(option_of(word) == "--enable-sleep-mode" for word in spec.extra_args)
