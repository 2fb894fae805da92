"""A GPU whose memory others take, whose driver was upgraded, hangs, or lost it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.leftovers import is_alive
from tests.e2e.instance import until
from tests.faults.conftest import Lab, ended
from tests.faults.stand_in.fake_device import MIB

GPU_IS_LOST = 15  # nvml.h, enum nvmlReturn_t
LIB_RM_VERSION_MISMATCH = 18
HANG = -1  # the stand-in's own

FOREIGN = """
import sys, time
sys.path.insert(0, sys.argv[1])
from fake_device import Device
from pathlib import Path
held = Device(Path(sys.argv[2])).hold("gpu0", int(sys.argv[3]))
print("holds", flush=True)
time.sleep(600)
"""


@contextmanager
def foreign_process(lab: Lab, size: int) -> Iterator[subprocess.Popen[str]]:
    """Somebody else's program, which holds so much of the GPU."""
    stand_in = Path(__file__).parent / "stand_in"
    words = [sys.executable, "-c", FOREIGN, str(stand_in), str(lab.device.root), str(size)]
    with subprocess.Popen([*words, "train.py"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        try:
            yield process
        finally:
            process.kill()


def test_memory_is_back_before_the_next_start(gpu_lab: Lab) -> None:
    """A worker that ignores SIGTERM holds it for 5 s after its server was killed."""
    gpu_lab.box.start()
    tree = gpu_lab.tree("coder")
    before = gpu_lab.device.used_bytes("gpu0")
    tree["server"].kill()
    until(gpu_lab.says(lambda s: s["models"][0]["restarts"] == 1), "it is restarted")
    gpu_lab.until_ready()
    assert ended(tree.values())
    assert gpu_lab.device.used_bytes("gpu0") == before
    assert gpu_lab.model("coder")["starts"] == 2, "the first try had its memory"
    gpu_lab.box.instance.must("down")
    assert gpu_lab.device.used_bytes("gpu0") == 0


def test_an_engine_that_was_charged_for_others_is_tried_again(gpu_lab: Lab) -> None:
    """Somebody loaded something while it measured, and is gone before anybody looks."""
    said = [
        "INFO 11-26 00:38:04 [gpu_worker.py:560] Available KV cache memory: -12.77 GiB",
        "ValueError: No available memory for the cache blocks. Try increasing",
    ]
    gpu_lab.device.knobs("coder", start_exit=1, start_line="\n".join(said))
    gpu_lab.box.start(wait=False)
    until(gpu_lab.says(lambda s: s["models"][0]["failures"] == 1), "its first try has failed")
    gpu_lab.device.knobs("coder")
    gpu_lab.until_ready("coder")
    shown = gpu_lab.box.instance.must("events", "coder")
    assert "less for its cache than planned" in shown


def test_who_takes_the_memory_between_stop_and_start_is_named(gpu_lab: Lab) -> None:
    gpu_lab.box.start()
    gpu_lab.box.instance.must("stop", "coder")
    with foreign_process(gpu_lab, 10_000 * MIB) as other:
        gpu_lab.box.instance.must("start", "coder", "--no-wait")
        until(
            gpu_lab.says(lambda s: f"pid {other.pid}" in (s["models"][0]["reason"] or "")),
            "the reason names it",
        )
        model = gpu_lab.model("coder")
        assert model["state"] == "Queued"
        assert "python" in model["reason"], "its name"
        assert "9.77 GiB" in model["reason"], "what it holds"
        assert "is free" in model["reason"]
        neighbour = str(gpu_lab.model("general")["pid"])
        assert neighbour not in model["reason"], "what our own engines hold is planned"
        refused = gpu_lab.box.chat("coder")
        assert refused.status == 503
        assert str(other.pid) not in refused.json()["error"]["message"], "not the clients' matter"
    gpu_lab.until_ready("coder")
    assert gpu_lab.model("coder")["failures"] == 0


@pytest.mark.parametrize(
    ("error", "said", "advice"),
    [
        (LIB_RM_VERSION_MISMATCH, "driver was upgraded", "reboot"),
        pytest.param(GPU_IS_LOST, "fell off the bus", "Xid", marks=pytest.mark.slow),
        pytest.param(HANG, "does not answer", "nvidia-smi", marks=pytest.mark.slow),
    ],
    ids=["upgraded", "lost", "hangs"],
)
def test_a_driver_that_fails_freezes_placement_and_nothing_else(
    gpu_lab: Lab, error: int, said: str, advice: str
) -> None:
    gpu_lab.box.start()
    general = gpu_lab.tree("general")
    gpu_lab.device.break_driver(error)
    gpu_lab.tree("coder")["server"].kill()  # its restart is what cannot be placed now
    until(
        gpu_lab.says(lambda s: said in (s["models"][0]["reason"] or "")),
        "the reason is what the driver says",
    )
    model = gpu_lab.model("coder")
    assert model["state"] == "Queued"
    assert advice in model["reason"]
    assert any(said in fault and advice in fault for fault in gpu_lab.status()["faults"])
    shown = gpu_lab.box.instance.gpuserve("status")
    assert said in shown.stdout + shown.stderr
    assert gpu_lab.tree("general") == general, "a healthy engine is left alone"
    assert gpu_lab.box.chat("general").status == 200
    assert gpu_lab.box.chat("coder").status == 503
    gpu_lab.device.break_driver(None)
    gpu_lab.until_ready("coder")
    until(gpu_lab.says(lambda s: s["faults"] == []), "it is not said any more")


def test_an_engine_is_not_stopped_for_a_restart_that_cannot_be_had(gpu_lab: Lab) -> None:
    gpu_lab.box.start()
    before = gpu_lab.tree("coder")
    gpu_lab.device.break_driver(LIB_RM_VERSION_MISMATCH)
    done = gpu_lab.box.instance.gpuserve("restart", "coder")
    assert done.returncode == 1
    assert "driver was upgraded" in done.stderr
    assert gpu_lab.tree("coder") == before
    gpu_lab.device.break_driver(None)
    gpu_lab.box.instance.must("restart", "coder")


def test_an_instance_that_is_ended_under_a_broken_driver_ends(gpu_lab: Lab) -> None:
    gpu_lab.box.start()
    gpu_lab.device.break_driver(HANG)
    gpu_lab.box.instance.must("down")
    gpu_lab.box.must_be_gone()


def test_nobody_starts_beside_an_engine_that_falls_apart(gpu_lab: Lab) -> None:
    """Its server has ended; its worker holds the memory until the shim has killed it."""
    gpu_lab.box.engine |= {"restart_limit": 50}
    gpu_lab.box.start()
    gpu_lab.box.instance.must("stop", "general")
    tree = gpu_lab.tree("coder")
    tree["server"].terminate()  # by somebody else: nobody asked for its end
    until(lambda: not is_alive(tree["server"]), "its server has ended")
    assert is_alive(tree["worker"])
    gpu_lab.box.instance.must("start", "general", "--no-wait")
    gpu_lab.until_ready()
    gpu_lab.must_be_sound()
    assert ended(tree.values())
