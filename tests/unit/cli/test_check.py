"""`gpuserve check` as scripts and people use it."""

import json
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from gpuserve.cli.main import main
from tests.unit.checkpoints import write_checkpoint

ROOT = Path(__file__).parents[3]
CARD = "RTX PRO 6000 Blackwell"


@pytest.fixture(autouse=True)
def no_models_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-cache"))


def write(folder: Path, text: str) -> str:
    file = folder / "profile.toml"
    file.write_text(text)
    return str(file)


def one(folder: Path, **keys: str) -> str:
    lines = ['name = "a"', 'model = "Qwen/Qwen2.5-7B-Instruct"']
    lines += [f"{key} = {value}" for key, value in keys.items()]
    return write(folder, "[[model]]\n" + "\n".join(lines) + "\n")


def test_json_is_the_contract_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = one(tmp_path, demand="{ context_tokens = 16384, concurrency = 4 }")
    status = main(["--run-dir", "/run/x", "check", profile, "--gpu", "NVIDIA L4:2", "--json"])
    assert status == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "fits"
    assert [gpu["index"] for gpu in document["gpus"]] == [0, 1]
    for gpu in document["gpus"]:
        assert gpu["left_bytes"] == gpu["total_bytes"] - gpu["reserved_bytes"]
        assert gpu["free_bytes"] == gpu["total_bytes"]
    (model,) = document["models"]
    assert model["name"] == "a"
    assert model["gpus"] == [0]
    assert model["argv"][1:3] == ["serve", "Qwen/Qwen2.5-7B-Instruct"]
    assert model["env"]["CUDA_VISIBLE_DEVICES"] == "0"
    predicted = model["predicted"]
    parts = ("weights", "activation", "cuda_graph", "non_torch", "kv_cache")
    budget = sum(predicted[f"{part}_bytes"] for part in parts)
    total = document["gpus"][0]["total_bytes"]
    assert budget == pytest.approx(model["gpu_memory_utilization"] * total, abs=1)
    assert predicted["max_concurrency"] == pytest.approx(
        predicted["kv_cache_tokens"] / 16384, abs=0.001
    )
    assert predicted["max_concurrency"] >= 4


def test_what_does_not_fit_is_78_with_the_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = one(tmp_path, demand="{ context_tokens = 16384, concurrency = 40 }")
    assert main(["check", profile, "--gpu", "NVIDIA L4", "--json"]) == 78
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["verdict"] == "does_not_fit"
    (problem,) = [p for p in document["problems"] if not p["warning"]]
    assert (problem["where"], problem["line"], problem["file"]) == ("model[0]", 1, profile)
    assert "short by" in problem["message"]
    assert "demand.concurrency" in problem["hint"]
    assert "short by" in said.err


def test_a_card_that_others_hold_is_75(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = tmp_path / "machine.toml"
    machine.write_text('[[gpu]]\nname = "NVIDIA L4"\nfree_gib = 4.0\n')
    profile = one(tmp_path, memory='"20 GiB"', max_model_len="16384")
    assert main(["check", profile, "--machine", str(machine), "--json"]) == 75
    assert json.loads(capsys.readouterr().out)["verdict"] == "not_now"


def test_an_invalid_profile_is_78_and_json_still(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = one(tmp_path, max_model_length="16384")
    assert main(["check", profile, "--gpu", "NVIDIA L4", "--json"]) == 78
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "invalid"
    assert document["problems"][0]["line"] == 4


def test_a_gpu_that_does_not_exist_is_named_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = one(tmp_path, gpus="[5]")
    assert main(["check", profile, "--gpu", "NVIDIA L4:2"]) == 78
    said = capsys.readouterr()
    assert f"{profile}:4: error: model[0].gpus[0]: there is no GPU 5" in said.err


def test_a_missing_model_directory_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = write(tmp_path, '[[model]]\nname = "a"\nmodel = "./nowhere"\n')
    assert main(["check", profile, "--gpu", "NVIDIA L4"]) == 78
    said = capsys.readouterr()
    assert f"{profile}:3: error: model[0].model: the model directory" in said.err
    assert "does not exist" in said.err


def test_a_directory_without_weights_is_warned_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (write_checkpoint(tmp_path / "m") / "model.safetensors").unlink()
    profile = write(tmp_path, '[[model]]\nname = "a"\nmodel = "./m"\nmax_model_len = 1024\n')
    assert main(["check", profile, "--gpu", "NVIDIA L4"]) == 0
    assert f"{profile}:3: warning: model[0].model:" in capsys.readouterr().err


def test_a_profile_that_is_only_tight_is_0_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = one(tmp_path, demand="{ context_tokens = 16384, concurrency = 6 }")
    assert main(["check", profile, "--gpu", "NVIDIA L4", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["verdict"] == "tight"
    assert "warning: model[0]:" in said.err


def test_a_machine_without_gpus_and_a_profile_that_does_not_say_cpu_is_69(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from gpuserve.machine.gpus import read_gpus

    if read_gpus():
        pytest.skip("this machine has a GPU")
    assert main(["check", one(tmp_path), "--json"]) == 69
    said = capsys.readouterr()
    assert json.loads(said.out)["verdict"] is None
    assert 'device = "cpu"' in said.err


def test_a_profile_of_upstreams_alone_needs_no_gpu(tmp_path: Path) -> None:
    profile = write(
        tmp_path, '[[upstream]]\nname = "e"\nurl = "http://127.0.0.1:8088"\nmodels = ["m"]\n'
    )
    assert main(["check", profile]) == 0


def test_an_executable_that_is_missing_is_69_here_and_nothing_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(tmp_path / "m")
    text = (
        '[engine]\ndevice = "cpu"\nvllm = "./no-vllm"\n'
        '[[model]]\nname = "a"\nmodel = "./m"\nkv_cache_memory_bytes = "1 GiB"\n'
    )
    profile = write(tmp_path, text)
    assert main(["check", profile]) == 69
    assert "engine.vllm: there is no vLLM executable" in capsys.readouterr().err
    machine = tmp_path / "machine.toml"
    machine.write_text("[host]\nram_gib = 64\n")
    assert main(["check", profile, "--machine", str(machine), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["problems"] == []
    assert document["models"][0]["argv"][0] == str(tmp_path / "no-vllm")


def test_a_reservation_larger_than_its_card_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream = '[[upstream]]\nname = "e{}"\nurl = "http://127.0.0.1:808{}"\nmodels = ["e-{}"]\n'
    model = '[[model]]\nname = "a"\nmodel = "Qwen/Qwen2.5-7B-Instruct-AWQ"\ngpus = [1]\n'
    model += "max_model_len = 4096\n"
    each = [upstream.format(n, n, n) + 'gpus = [0]\nreserve = "12 GiB"\n' for n in (1, 2)]
    assert main(["check", write(tmp_path, model + each[0]), "--gpu", "NVIDIA L4:2"]) == 0
    profile = write(tmp_path, model + "".join(each))
    capsys.readouterr()
    assert main(["check", profile, "--gpu", "NVIDIA L4:2", "--json"]) == 78
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "does_not_fit"
    (problem,) = document["problems"]
    assert (problem["where"], problem["line"]) == ("upstream[1].reserve", 17)
    assert "12.00 GiB are reserved on GPU 0, which has 10.03 GiB" in problem["message"]


def test_a_value_that_vllm_does_not_know_is_a_warning_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = 'kv_cache_dtype = "fp9"\nmax_model_len = 4096\n'
    models = "".join(
        f'[[model]]\nname = "{n}"\nmodel = "Qwen/Qwen2.5-7B-Instruct-AWQ"\n' for n in "ab"
    )
    profile = write(tmp_path, f'[engine]\n{keys}{models}quantization = "awqq"\n')
    assert main(["check", profile, "--gpu", "NVIDIA L4:2"]) == 0
    said = capsys.readouterr().err
    assert said.count("fp9") == 1
    assert f"{profile}:2: warning: engine.kv_cache_dtype: " in said
    assert 'did you mean "fp8"?' in said
    assert f"{profile}:10: warning: model[1].quantization: " in said
    assert 'did you mean "awq"?' in said


def test_a_chat_template_that_is_not_there_is_an_error_only_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(tmp_path / "m")
    vllm = tmp_path / "vllm"
    vllm.write_text("#!/bin/sh\necho 0.32.0\n")
    vllm.chmod(0o755)
    text = (
        '[engine]\ndevice = "cpu"\nvllm = "./vllm"\nkv_cache_memory_bytes = "1 GiB"\n'
        '[[model]]\nname = "a"\nmodel = "./m"\nchat_template = "t.jinja"\n'
    )
    profile = write(tmp_path, text)
    assert main(["check", profile]) == 78
    missing = f"{profile}:8: error: model[0].chat_template: the chat template {tmp_path}/t.jinja"
    assert missing in capsys.readouterr().err
    machine = tmp_path / "machine.toml"
    machine.write_text("[host]\nram_gib = 64\n")
    assert main(["check", profile, "--machine", str(machine)]) == 0
    (tmp_path / "t.jinja").write_text("{{ messages }}")
    main(["check", profile])
    assert "model[0].chat_template" not in capsys.readouterr().err
    inline = write(tmp_path, text.replace('"t.jinja"', '"{% for m in messages %}{% endfor %}"'))
    main(["check", inline])
    assert "model[0].chat_template" not in capsys.readouterr().err


def test_a_default_that_one_model_cannot_take_is_placed_where_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = write(
        tmp_path,
        "[engine]\nmax_model_len = 999999\n"
        '[[model]]\nname = "a"\nmodel = "Qwen/Qwen2.5-7B-Instruct"\n',
    )
    assert main(["check", profile, "--gpu", "NVIDIA L4"]) == 78
    said = capsys.readouterr().err
    assert f"{profile}:2: error: engine.max_model_len: model[0]: 999999 tokens" in said


def test_three_hundred_models_are_checked_in_seconds(tmp_path: Path) -> None:
    model = '[[model]]\nname = "m{}"\nmodel = "Qwen/Qwen2.5-7B-Instruct-AWQ"\n'
    profile = write(tmp_path, "".join(model.format(n) for n in range(300)))
    began = time.process_time()
    assert main(["check", profile, "--gpu", "NVIDIA L4:8"]) == 78
    assert time.process_time() - began < 10


def test_secrets_of_an_engine_s_environment_are_not_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("HF_TOKEN", "S3_ACCESS_KEY", "my_secret", "DB_PASSWORD")
    given = ", ".join(f'{name} = "hush-{n}"' for n, name in enumerate(names))
    profile = one(tmp_path, env=f'{{ {given}, TOKENIZERS_PARALLELISM = "false" }}')
    for more in (["--json"], []):
        assert main(["check", profile, "--gpu", "NVIDIA L4", *more]) == 0
        said = capsys.readouterr()
        assert "hush" not in said.out + said.err
        if more:
            env = json.loads(said.out)["models"][0]["env"]
            assert {env[name] for name in names} == {"***"}
            assert env["CUDA_VISIBLE_DEVICES"] == "0"
            assert env["TOKENIZERS_PARALLELISM"] == "false"


def test_a_drain_that_systemd_would_cut_short_is_a_warning_in_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = one(tmp_path, drain_timeout_s="120", max_model_len="4096")
    assert main(["check", profile, "--gpu", "NVIDIA L4"]) == 0
    said = capsys.readouterr().err
    assert f"{profile}:1: warning: model[0]: " in said
    assert "under systemd raise TimeoutStopSec to 170" in said


def test_people_get_a_bar_a_table_and_the_arithmetic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = one(tmp_path, demand="{ context_tokens = 16384, concurrency = 4 }")
    assert main(["check", profile, "--gpu", "NVIDIA L4"]) == 0
    text = capsys.readouterr().out
    assert f"{profile}: fits" in text
    assert "[########" in text
    assert "57,344 B per token" in text
    assert "14.29 GiB" in text
    assert "\x1b" not in text


def test_check_costs_little_and_imports_nothing_heavy() -> None:
    code = (
        "import resource, sys\n"
        "from gpuserve.cli.main import main\n"
        f"main(['check', {str(ROOT / 'profiles/coder-and-general-96gb.toml')!r}, "
        f"'--gpu', {CARD!r}])\n"
        "heavy = {'aiohttp', 'huggingface_hub', 'psutil', 'pynvml', 'rich', 'torch'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_utime, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, seconds = done.stderr.strip().splitlines()[-2:]
    assert heavy == "[]"
    assert float(seconds) < 0.5


def test_a_flag_that_vllm_dropped_is_refused_where_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = one(tmp_path, max_model_len="8192", extra_args='["--swap-space", "4"]')
    assert main(["check", profile, "--gpu", "NVIDIA L4"]) == 78
    said = capsys.readouterr().err
    assert f"{profile}:5: error: model[0].extra_args[0]: this vLLM has no --swap-space" in said


def test_a_card_too_old_for_the_numbers_makes_the_profile_invalid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = write(
        tmp_path,
        '[[model]]\nname = "a"\nmodel = "Qwen/Qwen2.5-0.5B-Instruct"\nmax_model_len = 2048\n'
        'dtype = "bfloat16"\n',
    )
    assert main(["check", profile, "--gpu", "NVIDIA L4"]) == 0
    capsys.readouterr()
    assert main(["check", profile, "--gpu", "NVIDIA T4", "--json"]) == 78
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["verdict"] == "invalid"
    problem = next(p for p in document["problems"] if not p["warning"])
    assert (problem["where"], problem["line"]) == ("model[0].dtype", 5)
    assert "compute capability 8.0" in problem["message"]


def test_weights_without_a_tokenizer_are_doubted_for_a_program_that_may_not_need_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_checkpoint(tmp_path / "m")
    program = tmp_path / "stand-in"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    profile = write(
        tmp_path,
        f'[engine]\ndevice = "cpu"\nvllm = "{program}"\n'
        f'[[model]]\nname = "a"\nmodel = "{folder}"\nmemory = "4 GiB"\n',
    )
    run_dir = ["--run-dir", str(tmp_path / "run")]
    assert main([*run_dir, "check", profile]) == 0
    assert f'{profile}:6: warning: model[0].model: "{folder}" holds no tokenizer' in (
        capsys.readouterr().err
    )
    (folder / "tokenizer.json").write_text("{}")
    assert main([*run_dir, "check", profile]) == 0
    assert "tokenizer" not in capsys.readouterr().err


def test_one_model_is_explained_term_by_term(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = one(tmp_path, demand="{ context_tokens = 16384, concurrency = 4 }")
    gpu = ["--gpu", "NVIDIA L4"]
    assert main(["check", profile, *gpu, "--explain", "a"]) == 0
    said = capsys.readouterr().out
    assert "KV cache of a token           57,344 B   in all layers" in said
    assert "vllm/v1/kv_cache_interface.py" in said
    assert main(["check", profile, *gpu, "--explain", "a", "--json"]) == 0
    explain = json.loads(capsys.readouterr().out)["explain"]
    assert explain["model"] == "a"
    assert {"name", "size_bytes", "how", "source"} == set(explain["terms"][0])
    assert main(["check", profile, *gpu, "--explain", "b"]) == 2
    assert 'no model "b"' in capsys.readouterr().err


def test_the_bar_of_an_absurd_demand_is_as_wide_as_any(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracemalloc.start()
    profile = one(tmp_path, demand=f"{{ context_tokens = 32768, concurrency = {10**24} }}")
    assert main(["check", profile, "--gpu", "NVIDIA L4"]) == 78
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "[" + "#" * 40 + "!]" in capsys.readouterr().out
    assert peak_bytes < 256 << 20


def test_a_rank_on_a_larger_card_is_not_taken_for_an_upstream(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = tmp_path / "machine.toml"
    machine.write_text(f'[[gpu]]\nname = "NVIDIA L4"\n[[gpu]]\nname = "{CARD}"\n')
    profile = one(
        tmp_path,
        tensor_parallel_size="2",
        demand="{ context_tokens = 8192, concurrency = 4 }",
    )
    assert main(["check", profile, "--machine", str(machine)]) == 0
    text = capsys.readouterr().out
    assert text.count("# a") == 2
    assert "upstream" not in text


def test_what_servers_elsewhere_reserve_is_looked_at_without_a_model_of_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = write(
        tmp_path,
        '[[upstream]]\nname = "e"\nurl = "http://127.0.0.1:8088"\nmodels = ["m"]\ngpus = [0]\n'
        'reserve = "100 GiB"\n',
    )
    assert main(["check", profile, "--gpu", "NVIDIA L4"]) == 78
    assert "100.00 GiB are reserved on GPU 0" in capsys.readouterr().err


def test_a_demand_that_is_too_long_is_told_where_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = one(tmp_path, demand="{ context_tokens = 999999, concurrency = 1 }")
    assert main(["check", profile, "--gpu", "NVIDIA L4"]) == 78
    said = capsys.readouterr().err
    assert f"{profile}:4: error: model[0].demand.context_tokens: 999999 tokens" in said
