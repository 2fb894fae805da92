"""Whether weights are here, whole, and which files of a repository are weights."""

import json
from pathlib import Path

import pytest

from gpuserve.machine.weights import (
    RepositoryFile,
    cached_snapshot,
    hub_cache,
    settings_here,
    small_files,
    weight_files,
    weights_here,
)


def model(folder: Path, *names: str, index: tuple[str, list[str]] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    if index is not None:
        name, shards = index
        (folder / name).write_text(
            json.dumps({"weight_map": {f"layer{n}": shard for n, shard in enumerate(shards)}})
        )
    return folder


TWO = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
INDEX = ("model.safetensors.index.json", TWO)


@pytest.mark.parametrize(
    ("names", "index", "here"),
    [
        (["config.json", "model.safetensors"], None, True),
        (["config.json", "pytorch_model.bin"], None, True),
        (["params.json", "consolidated.safetensors"], None, True),
        (["config.json", *TWO], INDEX, True),
        (["config.json", TWO[0]], INDEX, False),
        (["config.json", TWO[0]], None, False),
        (["config.json", *TWO], None, True),
        (["config.json"], INDEX, False),
        (["config.json"], None, False),
        (["model.safetensors"], None, False),
        (["config.json", "model.gguf"], None, False),
    ],
)
def test_weights_are_here_when_they_are_whole(
    tmp_path: Path, names: list[str], index: tuple[str, list[str]] | None, here: bool
) -> None:
    folder = model(tmp_path / "m", *names, index=index)
    assert weights_here(str(folder)) is here


def test_a_link_to_a_file_that_was_not_fetched_does_not_count(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", "config.json")
    (folder / "model.safetensors").symlink_to(tmp_path / "blobs" / "gone")
    assert not weights_here(str(folder))


def test_a_directory_that_is_not_there_has_no_weights(tmp_path: Path) -> None:
    assert not weights_here(str(tmp_path / "gone"))


def test_a_hub_id_is_looked_up_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--org--tiny"
    snapshot = model(repository / "snapshots" / "abc", "config.json", "model.safetensors")
    assert not weights_here("org/tiny")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    assert weights_here("org/tiny")
    assert weights_here("org/tiny", "abc")
    assert not weights_here("org/tiny", "v2")
    assert cached_snapshot("org/tiny", None) == snapshot
    assert settings_here("org/tiny")
    assert not settings_here("org/other")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({}, str(Path.home() / ".cache/huggingface/hub")),
    ],
)
def test_the_cache_is_where_the_hubs_library_has_it(
    variables: dict[str, str], expected: str
) -> None:
    assert hub_cache(variables) == Path(expected)


def files(*names: str) -> list[RepositoryFile]:
    return [RepositoryFile(name, 1, name) for name in names]


def paths(found: list[RepositoryFile]) -> list[str]:
    return [file.path for file in found]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["a.safetensors", "a.bin", "a.pt", "a.gguf"], ["a.safetensors"]),
        (["pytorch_model.bin", "a.gguf"], ["pytorch_model.bin"]),
        (["original/a.safetensors", "x.bin"], ["x.bin"]),
        (["consolidated.safetensors", "model.safetensors"], ["consolidated.safetensors"]),
        (["a.gguf", "a.onnx"], []),
    ],
)
def test_one_format_is_chosen_as_vllm_does(
    tmp_path: Path, names: list[str], chosen: list[str]
) -> None:
    assert paths(weight_files(files(*names), tmp_path, None)) == chosen


def test_an_index_names_the_shards(tmp_path: Path) -> None:
    model(tmp_path, index=INDEX)
    repository = files(*TWO, "extra.safetensors", "training_args.bin")
    assert paths(weight_files(repository, tmp_path, "auto")) == TWO


def test_dummy_weights_are_none(tmp_path: Path) -> None:
    assert weight_files(files("a.safetensors"), tmp_path, "dummy") == []


def test_small_files_are_settings_tokenizer_and_code() -> None:
    repository = files(
        "config.json",
        "tokenizer.model",
        "chat_template.jinja",
        "modeling_x.py",
        "merges.txt",
        "README.md",
        "a.safetensors",
        "original/params.json",
        "onnx/config.json",
    )
    assert paths(small_files(repository)) == [
        "config.json",
        "tokenizer.model",
        "chat_template.jinja",
        "modeling_x.py",
        "merges.txt",
    ]
