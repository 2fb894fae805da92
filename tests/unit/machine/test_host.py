"""RAM and processors, within the limits of a container."""

from pathlib import Path

import psutil

from gpuserve.machine.host import read_host


def container(root: Path, **files: str) -> Path:
    group = root / "sys/fs/cgroup/system.slice/gpuserve.service"
    group.mkdir(parents=True)
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/system.slice/gpuserve.service\n")
    for name, text in files.items():
        (group / name.replace("_", ".", 1)).write_text(text)
    return root


def test_without_limits_the_host_itself_is_read(tmp_path: Path) -> None:
    host = read_host(container(tmp_path, memory_max="max\n", cpu_max="max 100000\n"))
    assert host.ram_total_bytes == psutil.virtual_memory().total
    assert 0 < host.ram_available_bytes <= host.ram_total_bytes
    assert host.cpus >= 1


def test_a_smaller_limit_counts_and_idle_page_cache_does_not(tmp_path: Path) -> None:
    root = container(
        tmp_path,
        memory_max="1000000\n",
        memory_current="700000\n",
        memory_stat="anon 1\ninactive_file 300000\n",
    )
    host = read_host(root)
    assert host.ram_total_bytes == 1_000_000
    assert host.ram_available_bytes == 600_000


def test_a_limit_of_an_outer_group_counts(tmp_path: Path) -> None:
    root = container(tmp_path, memory_max="max")
    (root / "sys/fs/cgroup/system.slice/memory.max").write_text("5000")
    assert read_host(root).ram_total_bytes == 5000


def test_a_limit_above_the_hosts_memory_changes_nothing(tmp_path: Path) -> None:
    root = container(tmp_path, memory_max=str(1 << 60))
    assert read_host(root).ram_total_bytes == psutil.virtual_memory().total


def test_a_processor_quota_counts(tmp_path: Path) -> None:
    assert read_host(container(tmp_path, cpu_max="100000 100000")).cpus == 1


def test_a_host_without_cgroups_is_read(tmp_path: Path) -> None:
    assert read_host(tmp_path).ram_total_bytes == psutil.virtual_memory().total
