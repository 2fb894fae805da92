"""Shared memory, disks and the Multi-Process Service are looked up where they are."""

from pathlib import Path

from gpuserve.machine.surroundings import disk_of, multi_process_service, shared_memory_bytes


def test_shared_memory_has_a_size_or_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "dev/shm").mkdir(parents=True)
    size = shared_memory_bytes(tmp_path)
    assert size is not None
    assert size > 0
    assert shared_memory_bytes(tmp_path / "elsewhere") is None


def test_a_directory_that_is_still_to_be_made_is_on_the_disk_of_its_parent(tmp_path: Path) -> None:
    there, later = disk_of(tmp_path), disk_of(tmp_path / "a" / "b")
    assert later.path == str(tmp_path / "a" / "b")
    assert abs(later.free_bytes - there.free_bytes) < 1 << 30


def test_the_service_is_known_by_its_name(tmp_path: Path) -> None:
    for pid, name in (("1", "systemd"), ("77", "bash")):
        (tmp_path / "proc" / pid).mkdir(parents=True)
        (tmp_path / "proc" / pid / "comm").write_text(name + "\n")
    assert not multi_process_service(tmp_path)
    (tmp_path / "proc/77/comm").write_text("nvidia-cuda-mps\n")
    assert multi_process_service(tmp_path)
