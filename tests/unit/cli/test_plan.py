"""`gpuserve plan` as scripts and people use it."""

import json
from pathlib import Path

import pytest

from gpuserve.cli.main import main
from tests.unit.checkpoints import write_checkpoint

ASK = ["--model", "Qwen/Qwen2.5-7B-Instruct", "--context", "32768", "--concurrency", "10"]
L4S = ["--gpu", "NVIDIA L4:2"]


@pytest.fixture(autouse=True)
def no_models_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_the_arithmetic_the_options_and_the_one_to_take(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", *ASK, *L4S]) == 0
    said = capsys.readouterr().out
    assert "57,344 B per token; 1.75 GiB for one request" in said
    assert "17.50 GiB" in said
    assert "take 2: tensor_parallel_size = 2" in said


def test_warnings_stand_below_the_table_with_the_options_that_they_are_about(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", *ASK, "--gpu", "NVIDIA A100 80GB"]) == 0
    _, _, below = capsys.readouterr().out.partition("take 1: as asked\n")
    assert "warning (2, 4, 6): GPU 0 (NVIDIA A100 80GB) has compute capability 8.0" in below
    assert below.count("only FlashInfer reads a fp8 KV cache") == 1
    assert main(["plan", *ASK, "--gpu", "NVIDIA H100 80GB"]) == 0
    assert "FlashInfer" not in capsys.readouterr().out


def test_json_has_every_option_with_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *ASK, *L4S, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["asked"][0]["concurrency"] == 10
    first, second = document["options"][:2]
    assert (first["verdict"], second["verdict"]) == ("does_not_fit", "fits")
    assert first["problems"][0]["message"]
    assert [gpu["left_bytes"] > 0 for gpu in second["gpus"]] == [True, True]


def test_a_written_profile_is_accepted_and_never_overwrites(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new.toml"
    assert main(["plan", *ASK, *L4S, "--write", str(file)]) == 0
    assert main(["check", str(file), *L4S]) == 0
    before = file.read_bytes()
    capsys.readouterr()
    assert main(["plan", *ASK, *L4S, "--write", str(file)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert file.read_bytes() == before
    other = tmp_path / "other.toml"
    assert main(["plan", *ASK, *L4S, "--option", "1", "--write", str(other)]) == 2
    assert "option 1 does not fit" in capsys.readouterr().err
    assert main(["plan", *ASK, *L4S, "--option", "4", "--write", str(other)]) == 0
    assert 'kv_cache_dtype = "fp8"' in other.read_text()


def test_what_no_card_holds_is_an_answer_of_no(capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["--model", "meta-llama/Meta-Llama-3.1-405B", "--context", "8192", "--concurrency", "1"]
    assert main(["plan", *ask, "--gpu", "NVIDIA L4"]) == 1
    assert "none of these fits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "no/such", "--context", "1", "--concurrency", "1"], "nothing is known of"),
        ([*ASK, "--context", "1"], "1 model(s) and 2 times --context"),
        ([*ASK, *ASK[:2]], "named twice"),
        ([*ASK[:-1], "0"], "--concurrency"),
        ([*ASK[:-1], "32K"], "expected a whole number"),
        (["--model", "./nope", *ASK[2:]], "does not exist"),
        ([*ASK, "--gpu", "NVIDIA L5"], "no card"),
        ([*ASK, *L4S, "--option", "99"], "there is no option 99"),
    ],
)
def test_wrong_questions_are_usage_errors(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = [] if "--gpu" in words else L4S
    try:
        status = main(["plan", *words, *gpu])
    except SystemExit as error:  # argparse's own
        status = int(str(error.code))
    assert status == 2
    assert said in capsys.readouterr().err


def test_a_context_beyond_the_model_is_said_for_one_machine_and_for_every_card(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = ["--model", "Qwen/Qwen2.5-7B-Instruct", "--context", "1000000", "--concurrency", "1"]
    reason = "1000000 tokens is beyond the model, which takes 32768"
    assert main(["plan", *ask, *L4S]) == 1
    assert reason in capsys.readouterr().out
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(["plan", *ask]) == 1
    said = capsys.readouterr().out
    assert "no card serves it" in said
    assert reason in said


def test_cards_that_others_hold_are_75_and_not_too_small(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = tmp_path / "machine.toml"
    machine.write_text('[[gpu]]\nname = "NVIDIA L4"\nfree_gib = 2.0\n')
    ask = [*ASK[:2], "--context", "4096", "--concurrency", "4"]
    assert main(["plan", *ask, "--machine", str(machine)]) == 75
    assert "but not now: others hold memory" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["m", "./m", "モデル 1", "org/m"])
def test_a_profile_for_a_directory_is_accepted_wherever_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_checkpoint(tmp_path / name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    file = str(tmp_path / "elsewhere" / "new.toml")
    ask = ["--model", name, "--context", "1024", "--concurrency", "2", "--gpu", "NVIDIA L4"]
    assert main(["plan", *ask, "--write", file]) == 0
    assert main(["check", file, "--gpu", "NVIDIA L4"]) == 0


def test_a_profile_that_cannot_be_written_is_69(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *ASK, *L4S, "--write", str(tmp_path / "no" / "p.toml")]) == 69
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
