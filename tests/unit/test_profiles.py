"""Every shipped profile loads, says what it demands, and has the verdict that it promises."""

import shutil
from pathlib import Path

import pytest

from gpuserve.errors import ExitStatus
from gpuserve.prepare import Prepared, prepare
from gpuserve.profile.load import load
from tests.unit.checkpoints import write_checkpoint

PROFILES = Path(__file__).parents[2] / "profiles"
BIG = "RTX PRO 6000 Blackwell"
VERDICTS = {
    "coder-and-general-96gb": (BIG, "fits"),
    "coder-and-qwen-14b-96gb": (BIG, "fits"),
    "qwen-family-96gb": (BIG, "fits"),
    "memory-constrained-96gb": (BIG, "fits"),
    "single-coder-96gb": (BIG, "fits"),
    "fp16-pair-96gb": (BIG, "does_not_fit"),
    "int8-pair-96gb": (BIG, "does_not_fit"),
    "l4x2-16k": ("NVIDIA L4:2", "tight"),
    "l4x2-16k-awq": ("NVIDIA L4:2", "fits"),
    "l4x2-tensor-parallel": ("NVIDIA L4:2", "fits"),
    "l4x2-10x32k-one-model": ("NVIDIA L4:2", "fits"),
    "l4x2-10x32k-two-models": ("NVIDIA L4:2", "fits"),
    "l4x2-10x32k-two-models-unquantized": ("NVIDIA L4:2", "does_not_fit"),
    "a10-qwen3-8b": ("NVIDIA A10", "fits"),
    "l20-qwen3-8b": ("NVIDIA L20", "fits"),
}


@pytest.fixture(autouse=True)
def no_models_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts come from the catalogue, whatever lies in the cache of this machine."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-cache"))


def prepared(name: str, gpu: str, run_dir: Path) -> Prepared:
    return prepare(PROFILES / f"{name}.toml", gpu=gpu, run_dir=run_dir, environment={})


def test_every_shipped_profile_has_its_verdict_here() -> None:
    assert {path.stem for path in PROFILES.glob("*.toml")} == {*VERDICTS, "cpu-demo"}


@pytest.mark.parametrize("name", VERDICTS)
def test_a_shipped_profile_has_the_verdict_that_it_promises(name: str, tmp_path: Path) -> None:
    gpu, verdict = VERDICTS[name]
    result = prepared(name, gpu, tmp_path)
    assert result.plan is not None, result.problems
    assert result.plan.report.verdict == verdict
    expected = ExitStatus.CONFIG if verdict == "does_not_fit" else ExitStatus.DONE
    assert result.exit_status == expected
    assert all(grant.footprint is not None for grant in result.plan.report.grants)


@pytest.mark.parametrize("name", [*VERDICTS, "cpu-demo"])
def test_a_shipped_profile_names_its_scenario_its_demand_and_its_verdict(name: str) -> None:
    text = (PROFILES / f"{name}.toml").read_text()
    head = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    assert "request" in head
    assert f"gpuserve check profiles/{name}.toml" in head
    if name != "cpu-demo":
        assert 'From "' in head
        gpu, verdict = VERDICTS[name]
        assert f'--gpu "{gpu}"' in head
        assert verdict.replace("_", " ") in head


def test_an_unquantized_demand_that_does_not_fit_says_what_would(tmp_path: Path) -> None:
    result = prepared("fp16-pair-96gb", BIG, tmp_path)
    (problem,) = [p for p in result.problems if not p.warning]
    assert "short by 30" in problem.message
    assert problem.hint is not None
    assert "demand.concurrency = 2 for every model" in problem.hint
    assert "4-bit" in problem.hint
    assert problem.line is not None


def test_chat_routes_of_shipped_profiles_lead_to_models_with_a_chat_template(
    tmp_path: Path,
) -> None:
    for name, (gpu, _) in VERDICTS.items():
        result = prepared(name, gpu, tmp_path)
        assert result.plan is not None
        assert [launch.capabilities.chat for launch in result.plan.launches] == [True] * len(
            result.plan.launches
        )


def test_the_cpu_demo_fits_in_8_gib(tmp_path: Path) -> None:
    home = tmp_path / "profiles"
    home.mkdir()
    shutil.copy(PROFILES / "cpu-demo.toml", home)
    for name in ("coder", "general"):
        write_checkpoint(tmp_path / ".demo" / "models" / name)
    machine = tmp_path / "machine.toml"
    machine.write_text("[host]\nram_gib = 8\n")
    result = prepare(home / "cpu-demo.toml", machine_file=machine, run_dir=tmp_path, environment={})
    assert result.plan is not None, result.problems
    assert result.exit_status == ExitStatus.DONE
    assert result.plan.report.verdict in {"fits", "tight", "risky"}
    assert result.plan.report.device == "cpu"
    for launch in result.plan.launches:
        assert dict(launch.env)["VLLM_CPU_KVCACHE_SPACE"] == "1"
        assert launch.gate == ("cpu",)
        assert launch.weights is None


def test_shipped_profiles_of_one_box_do_not_share_names() -> None:
    for path in PROFILES.glob("*.toml"):
        names = [model.name for model in load(path).models]
        assert len(set(names)) == len(names)
