"""What a run directory says after a reboot, when its pids are other programs'."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuserve.machine import families
from gpuserve.machine.instance import Instance
from gpuserve.machine.processes import boot_id, command_of, read
from gpuserve.rundir import RunDir
from gpuserve.shim.status import EngineStatus, outputs, write
from tests.e2e.instance import until
from tests.faults.conftest import Lab, ended


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """Another program, which got the pids that the files name; its output is a pipe."""
    with subprocess.Popen(["sleep", "600"], stdout=subprocess.PIPE) as process:
        try:
            yield process
            assert process.poll() is None, "it was signalled"
        finally:
            process.kill()


def ticks_of(pid: int) -> int:
    found = read(pid)
    assert found is not None
    return found.start_ticks


@pytest.mark.parametrize(
    "same_ticks",
    [
        pytest.param(True, id="same start"),
        pytest.param(False, id="another start", marks=pytest.mark.slow),
    ],
)
def test_after_a_reboot_no_process_that_got_a_pid_is_touched(
    lab: Lab, bystander: subprocess.Popen[bytes], same_ticks: bool
) -> None:
    """Even its start time may be the same by chance: boots repeat themselves."""
    lab.box.start()
    run_dir = RunDir(lab.box.instance.run_dir)
    until(run_dir.families.exists, "families are noted")
    files = {path: path.read_text() for path in run_dir.path.rglob("*.json")}
    assert run_dir.families in files
    lab.box.end()
    pid, ticks = bystander.pid, ticks_of(bystander.pid) - (0 if same_ticks else 1)
    boot = "an earlier boot" if same_ticks else boot_id()
    named = {"pid": pid, "start_ticks": ticks, "pid_start_ticks": ticks, "boot": boot}
    named |= {"keeper_pid": pid, "keeper_start_ticks": ticks}
    named |= {"shim_pid": pid, "shim_start_ticks": ticks}
    for path, text in files.items():
        content = json.loads(text)
        content |= {key: value for key, value in named.items() if key in content}
        if "members" in content:
            content["members"] = [[pid, ticks]]
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    run_dir.heartbeat.write_text(json.dumps({"at_s": 0.0, **named}))
    assert lab.box.instance.gpuserve("status").returncode == 3, "nothing runs"
    assert lab.box.instance.gpuserve("down").returncode == 3
    lab.box.start()
    assert lab.box.chat("coder").status == 200
    until(lambda: _beats(run_dir), "the new controller's heartbeat")
    lab.box.end()
    lab.box.must_be_gone()


def _beats(run_dir: RunDir) -> bool:
    beat = json.loads(run_dir.heartbeat.read_text())
    return bool(beat["at_s"] > 0)


def test_a_pipe_of_an_earlier_boot_or_an_older_writer_is_nobodys(
    tmp_path: Path, bystander: subprocess.Popen[bytes]
) -> None:
    """Inodes of pipes repeat as pids do."""
    run_dir = RunDir(tmp_path)
    (tmp_path / "engines").mkdir()
    assert bystander.stdout is not None
    inode = Path(f"/proc/{bystander.pid}/fd/1").stat().st_ino
    ticks = ticks_of(bystander.pid)

    def family(boot: str, shim_start_ticks: int) -> set[tuple[int, int]]:
        status = EngineStatus(
            launch_id="1",
            name="coder",
            shim_pid=1,
            shim_start_ticks=shim_start_ticks,
            boot=boot,
            output_inode=inode,
        )
        write(run_dir.engine_status("coder"), status)
        return families.writers(outputs(run_dir))

    assert family(boot_id(), ticks) == {(bystander.pid, ticks)}
    assert family(boot_id(), ticks + 1) == set(), "it is older than the shim"
    assert family("an earlier boot", ticks) == set()


def test_an_engine_of_a_moment_ago_is_ended_by_the_next_up(lab: Lab) -> None:
    """All is killed before anybody noted who belongs to whom."""
    lab.box.start()
    trees = [lab.tree(name) for name in lab.box.names]
    RunDir(lab.box.instance.run_dir).families.unlink(missing_ok=True)
    control_plane = [p for p in lab.box.processes() if "fake" not in " ".join(p.cmdline())]
    for process in control_plane:
        process.suspend()  # none shall see another die
    for process in control_plane:
        process.kill()
    workers = [tree["worker"] for tree in trees]
    assert lab.box.up is not None
    lab.box.up.communicate(timeout=30)
    RunDir(lab.box.instance.run_dir).families.unlink(missing_ok=True)
    assert not ended(workers)
    lab.box.start()
    assert ended(workers)
    assert lab.box.chat("coder").status == 200


@pytest.mark.parametrize(("word", "alive"), [("gpuserve", True), ("another", False)])
def test_a_keeper_whose_boot_is_told_otherwise_is_known_by_its_command(
    word: str, alive: bool
) -> None:
    """As in systemd-nspawn, where a service reads another boot id than a shell."""
    words = [sys.executable, "-c", "input()", word]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        keeper = Instance(
            keeper_pid=process.pid,
            keeper_start_ticks=ticks_of(process.pid),
            profile="",
            url="",
            started_unix_s=0.0,
            version="",
            boot="another",
        )
        until(lambda: word.encode() in command_of(process.pid), "it has its command line")
        assert keeper.alive is alive
        process.kill()
