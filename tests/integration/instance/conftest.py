"""An instance of two fake engines for each test that asks for `box`, gone after it."""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from gpuserve.rundir import RunDir
from tests.integration.instance.box import Box, free_port, make_box

__all__ = ["Box", "free_port"]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = make_box(tmp_path)
    yield made
    while left := made.processes():
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.05)
    if made.up is not None:
        made.up.communicate()
    sockets = RunDir(made.instance.run_dir).sockets
    if sockets != made.instance.run_dir:
        shutil.rmtree(sockets, ignore_errors=True)


@pytest.fixture
def running(box: Box) -> Box:
    """Both engines ready."""
    box.start()
    return box
