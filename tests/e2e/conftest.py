"""One instance with two tiny models on real vLLM for all tests of this folder.

An engine takes 40 s of CPU to start, so the tests share it and run in the order of their file:
what only asks comes first, what kills comes later, what stops it comes last.

Left alone, every engine binds its threads to the same first cores and spins there
(vllm/utils/ompmultiprocessing.py): on two cores, one that serves starves one that starts.
"""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.leftovers import Traces
from tests.e2e.instance import Instance

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv-vllm"

GROUP = "vllm"  # of pytest-xdist

PROFILE = """\
[server]
port = {port}

[engine]
device = "cpu"
vllm = "{vllm}"
restart_backoff_s = 0.5

[[model]]
name = "coder"
aliases = ["code-alias"]
model = "{models}/coder"
max_model_len = 1024
max_num_seqs = 8
enforce_eager = true
kv_cache_memory_bytes = "1 GiB"
env = {{ VLLM_CPU_OMP_THREADS_BIND = "nobind", OMP_NUM_THREADS = "1" }}

[[model]]
name = "general"
model = "{models}/general"
max_model_len = 1024
max_num_seqs = 8
enforce_eager = true
kv_cache_memory_bytes = "1 GiB"
env = {{ VLLM_CPU_OMP_THREADS_BIND = "nobind", OMP_NUM_THREADS = "1" }}

[routing]
code = "coder"
general = "general"
default = "general"
"""


# First: a worker of xdist is registered after this file, so its own hook, which reads the marks,
# would come before.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder, so that `-m 'not vllm'` leaves it out."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            item.add_marker(pytest.mark.xdist_group(GROUP))  # they use one instance


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """The interpreter beside real vLLM, made by scripts/make-venv-vllm."""
    if not (VENV / "stamp").is_file():
        reason = f"{VENV} is not there; scripts/make-venv-vllm makes it"
        if os.environ.get("GPUSERVE_TEST_VLLM") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    return VENV / "bin" / "python"


@pytest.fixture(scope="session")
def tiny_models(vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the models `coder` and `general`."""
    directory = tmp_path_factory.mktemp("models")
    write_tiny_models(vllm_python, directory)
    return directory


def write_tiny_models(python: Path, directory: Path) -> None:
    subprocess.run([python, ROOT / "scripts" / "tiny_models.py", directory], check=True)


@pytest.fixture(scope="session")
def place(
    vllm_python: Path, tiny_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Instance:
    """The place for an instance: a profile, a run directory, a free port; nothing runs yet."""
    directory = tmp_path_factory.mktemp("instance")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    profile = directory / "profile.toml"
    vllm = vllm_python.with_name("vllm")
    profile.write_text(PROFILE.format(port=port, vllm=vllm, models=tiny_models), encoding="utf-8")
    return Instance(directory / "run", profile, port)


@pytest.fixture(scope="session")
def one_worker(request: pytest.FixtureRequest) -> None:
    """Fails where pytest-xdist does not see the group, and would start an instance per worker."""
    if request.config.getoption("loadgroup", default=False):  # in a worker of --dist loadgroup
        here = Path(__file__).parent
        names = [i.nodeid for i in request.session.items if here in i.path.parents]
        lost = [name for name in names if not name.endswith(f"@{GROUP}")]
        assert not lost, f"pytest-xdist does not see the group {GROUP} of {lost[0]}"


@pytest.fixture(scope="session")
def instance(place: Instance, one_worker: None) -> Iterator[Instance]:
    """The instance, all models ready."""
    try:
        place.must("up", str(place.profile), "--detach")
        place.wait_ready()
        yield place
    finally:
        traces = Traces.of(place.run_dir)
        place.gpuserve("down", "--now")
        for process in traces.processes:
            if process.is_running():
                process.kill()
