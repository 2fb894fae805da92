"""What `up` writes down for the processes that it starts."""

import os
import stat
from pathlib import Path

from gpuserve import jsonvalues
from gpuserve.daemon.directory import claim
from gpuserve.daemon.start import interpreter, write_down
from gpuserve.memory.engine import ModelFacts
from gpuserve.plan import Plan
from gpuserve.planning import make_plan
from gpuserve.rundir import RunDir
from tests.unit.memory.models import MISTRAL, awq, card, machine, model, profile


def plan_with_a_token(run_dir: Path) -> Plan:
    return make_plan(
        profile(model("m", env=(("HF_TOKEN", "hf_secret"),))),
        machine(card()),
        device="cuda",
        facts={"m": ModelFacts(architecture=awq(MISTRAL))},
        executables={},
        run_dir=run_dir,
    )


def test_a_plan_is_private_whatever_the_umask_and_keeps_the_engines_environment(
    tmp_path: Path,
) -> None:
    run_dir = RunDir(tmp_path / "run")
    claim(run_dir)
    plan = plan_with_a_token(run_dir.path)
    before = os.umask(0o022)
    try:
        write_down(run_dir, plan)
    finally:
        os.umask(before)
    assert stat.S_IMODE(run_dir.plan.stat().st_mode) == 0o600
    assert jsonvalues.loads(Plan, run_dir.plan.read_bytes()) == plan
    assert ("HF_TOKEN", "hf_secret") in plan.launches[0].env


def test_what_the_keeper_starts_follows_the_link_that_up_was_called_by(tmp_path: Path) -> None:
    installed = tmp_path / "0.1.0" / "bin"
    installed.mkdir(parents=True)
    (installed / "python3").touch()
    (tmp_path / "current").symlink_to("0.1.0")
    linked = tmp_path / "current" / "bin"
    assert interpreter(linked / "gpuserve", installed / "python3") == linked / "python3"
    assert interpreter(installed / "gpuserve", installed / "python3") == installed / "python3"
    elsewhere = tmp_path / "gpuserve" / "__main__.py"
    assert interpreter(elsewhere, installed / "python3") == installed / "python3"
