"""A run directory on a disk that is full: engines serve, are restarted, drain and stop."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.instance import until
from tests.integration.instance.conftest import Box


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"cannot mount a small file system here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> None:
    with (place / "fill").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return


def test_a_full_disk_stops_nothing(small_disk: Path, box: Box) -> None:
    box.instance = type(box.instance)(small_disk / "run", box.instance.profile, box.instance.port)
    box.start()
    fill(small_disk)
    os.kill(box.instance.model("coder")["pid"], signal.SIGKILL)
    until(lambda: box.instance.model("coder")["restarts"] == 1, "it is restarted")
    until(lambda: box.instance.model("coder")["ready"], "it is ready again")
    assert box.chat("coder").status == 200
    assert any("No space left" in fault for fault in box.instance.status()["faults"])
    box.instance.must("drain", "general")
    assert box.chat("general").status == 503, "workers learn of it without the file"
    box.instance.must("start", "general")
    pids = [model["pid"] for model in box.instance.status()["models"]]
    os.kill(box.pid_of("gpuserve.controller"), signal.SIGKILL)
    until(
        lambda: [model["pid"] for model in box.instance.status()["models"]] == pids,
        "a new controller has adopted both",
    )
    assert box.chat("coder").status == 200
    box.instance.must("down")
    until(lambda: not box.processes(), "every process has ended")
