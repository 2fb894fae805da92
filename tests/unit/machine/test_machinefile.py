"""Hardware that is not here, from a file or a word."""

from pathlib import Path

import pytest

from gpuserve.errors import ExitStatus, ProfileError, UsageError
from gpuserve.machine.machinefile import load_machine, parse_gpu_shorthand
from gpuserve.units import GIB


def test_the_shorthand_names_a_card_and_how_many() -> None:
    machine = parse_gpu_shorthand("NVIDIA L4:2")
    assert [gpu.index for gpu in machine.gpus] == [0, 1]
    assert {gpu.total_bytes for gpu in machine.gpus} == {round(22.03 * GIB)}
    assert all(gpu.free_bytes == gpu.total_bytes for gpu in machine.gpus)
    assert machine.gpus[0].compute_capability == (8, 9)
    assert machine.host.ram_total_bytes == 0


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("L4", "NVIDIA L4"),
        ("rtx 4090", "NVIDIA GeForce RTX 4090"),
        ("RTX-PRO-6000", "NVIDIA RTX PRO 6000 Blackwell"),
        ("NVIDIA A100-SXM4-80GB:8", "NVIDIA A100 80GB"),
        (" h100 :1", "NVIDIA H100 80GB"),
    ],
)
def test_a_card_is_found_however_it_is_written(text: str, name: str) -> None:
    assert parse_gpu_shorthand(text).gpus[0].name == name


@pytest.mark.parametrize("text", ["", ":2", "L4:0", "L4:999", "L4:x"])
def test_a_bad_shorthand_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_gpu_shorthand(text)
    assert caught.value.exit_status == ExitStatus.USAGE


def test_an_unknown_card_gets_the_nearest_ones() -> None:
    with pytest.raises(UsageError, match="NVIDIA L40S"):
        parse_gpu_shorthand("L45S")


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "machine.toml"
    path.write_text(text)
    return path


def test_a_machine_file_states_what_cuda_reports(tmp_path: Path) -> None:
    machine = load_machine(
        written(
            tmp_path,
            '[[gpu]]\nname = "NVIDIA L4"\ntotal_gib = 22\nfree_gib = 21.5\n'
            '[[gpu]]\nname = "NVIDIA L4"\n[[gpu]]\nname = "Homemade"\ntotal_gib = 10\n'
            '[host]\nram_gib = 64\nvllm_version = "0.33.0"\n',
        )
    )
    stated, catalogue, unknown = machine.gpus
    assert (stated.total_bytes, stated.free_bytes) == (22 * GIB, round(21.5 * GIB))
    assert catalogue.total_bytes == round(22.03 * GIB)
    assert (unknown.free_bytes, unknown.compute_capability) == (10 * GIB, None)
    assert machine.host.ram_total_bytes == 64 * GIB
    assert machine.host.vllm_version == "0.33.0"


def test_a_machine_without_gpus_states_its_ram(tmp_path: Path) -> None:
    machine = load_machine(written(tmp_path, "[host]\nram_gib = 24\ncpus = 4\n"))
    assert (machine.gpus, machine.host.cpus) == ((), 4)


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ('[[gpu]]\nname = "Homemade"\n', "gpu[0].total_gib", "catalogue"),
        ("[[gpu]]\ntotal_gib = 1\n", "gpu[0].name", "name"),
        ('[[gpu]]\nname = "L4"\ntotal_gib = "22 GiB"\n', "gpu[0].total_gib", "number"),
        ('[[gpu]]\nname = "L4"\ntotal_gib = inf\n', "gpu[0].total_gib", "number"),
        ('[[gpu]]\nname = "L4"\ntotal_gib = 1\nfree_gib = 2\n', "gpu[0].free_gib", "more than"),
        ('[[gpu]]\nname = "L4"\ntotal = 1\n', "gpu[0].total", "unknown key"),
        ('[gpu]\nname = "L4"\n', "gpu", "tables"),
        ("[host]\ncpus = 2\n", "", "describes nothing"),
        ("host = 1\n", "host", "a table"),
        ("[host]\nram_gib = 1\nvllm_version = 33\n", "host.vllm_version", "0.33.0"),
        ('[host]\nram_gib = 1\nvllm_version = "banana"\n', "host.vllm_version", "0.33.0"),
        ("[[gpus]]\n", "gpus", "unknown key"),
    ],
)
def test_a_wrong_machine_file_names_the_line(
    tmp_path: Path, text: str, where: str, said: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ProfileError) as caught:
        load_machine(path)
    problem = next(p for p in caught.value.problems if p.where == where)
    assert said in problem.message
    assert problem.file == str(path)
    assert problem.line is not None or not where


def test_a_missing_machine_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ProfileError) as caught:
        load_machine(tmp_path / "gone.toml")
    assert caught.value.problems[0].message == "no such file"
