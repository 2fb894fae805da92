"""What a directory, the hub's cache and the catalogue say about a model."""

import json
import os
from pathlib import Path

import pytest

from gpuserve.machine.checkpoint import CheckpointError, catalogue_facts, read_facts
from gpuserve.memory.architecture import Architecture, read_architecture
from gpuserve.memory.weights import weights_bytes
from gpuserve.profile.spec import ModelSpec
from tests.unit.checkpoints import TINY, write_checkpoint, write_safetensors

CATALOGUE = Path(__file__).parents[3] / "gpuserve" / "data" / "catalogue.json"


def spec(model: Path | str, **settings: str) -> ModelSpec:
    return ModelSpec(index=0, name="m", model=str(model), **settings)  # type: ignore[arg-type]


def arch_of(model: Path) -> Architecture:
    arch = read_facts(spec(model)).architecture
    assert arch is not None
    return arch


def test_a_directory_gives_its_shape_and_the_exact_sum_of_its_tensors(tmp_path: Path) -> None:
    facts = read_facts(spec(write_checkpoint(tmp_path / "m")))
    assert facts.here
    assert facts.tensor_bytes == 4096 + 1024
    assert facts.architecture is not None
    assert (facts.architecture.layers, facts.architecture.head_dim) == (2, 64)
    assert facts.architecture.chat_template is True


def test_only_the_files_of_the_index_are_counted(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m")
    write_safetensors(folder / "part-1.safetensors", {"x": ("BF16", 100)})
    index = {"weight_map": {"x": "part-1.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert read_facts(spec(folder)).tensor_bytes == 100


def test_a_second_copy_in_another_format_is_not_counted(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m")
    write_safetensors(folder / "consolidated.safetensors", {"x": ("BF16", 5000)})
    assert read_facts(spec(folder)).tensor_bytes == 5120


def test_float32_checkpoints_are_counted_as_vllm_loads_them(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m")
    write_safetensors(folder / "model.safetensors", {"x": ("F32", 4000)})
    assert read_facts(spec(folder)).tensor_bytes == 2000
    assert read_facts(spec(folder, dtype="float32")).tensor_bytes == 4000


def test_files_that_the_index_names_and_that_are_missing_are_not_here(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m")
    index = {"weight_map": {"x": "part-1.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    facts = read_facts(spec(folder))
    assert not facts.here
    assert facts.tensor_bytes is None


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "claims 0 bytes"),
        (b"\xff" * 8 + b"{}", "claims 18446744073709551615 bytes"),
        ((2).to_bytes(8, "little") + b"[]", "not a JSON object"),
        ((4).to_bytes(8, "little") + b"}{}{", "not JSON"),
    ],
)
def test_a_damaged_header_is_named_with_its_file(tmp_path: Path, raw: bytes, words: str) -> None:
    folder = write_checkpoint(tmp_path / "m")
    (folder / "model.safetensors").write_bytes(raw)
    with pytest.raises(CheckpointError, match=words) as caught:
        read_facts(spec(folder))
    assert "model.safetensors" in str(caught.value)


def header(tensors: dict[str, object], room: int) -> bytes:
    text = json.dumps(tensors).encode()
    return len(text).to_bytes(8, "little") + text + bytes(room)


def tensor(begin: int, end: int, *, dtype: str = "BF16", count: int | None = None) -> object:
    shape = [(end - begin) // 2 if count is None else count]
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ((1 << 63).to_bytes(8, "little") + b"{}", "claims 9223372036854775808 bytes"),
        (header({"a": tensor(0, 8), "b": tensor(4, 12)}, 12), '"a" and "b" overlap'),
        (header({"a": tensor(0, 8, count=1 << 40)}, 8), "has 8 bytes, its shape needs"),
        (header({"a": tensor(0, 8, count=-4)}, 8), "has no shape"),
        (header({"a": tensor(-8, 8)}, 8), "ends at byte 8 of 8"),
        (header({"a": {"dtype": "BF16", "data_offsets": [0, 8]}}, 8), "has no shape"),
        (header({"a": [0, 8]}, 8), "ends at byte -1"),
        (header({"a": tensor(0, 1 << 70)}, 8), "ends at byte"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00" + b"[" * 16, "not JSON"),
        (header({"a": tensor(0, 8, count=10**4000)}, 8), "has no shape"),
        (header({"\ud800\x1b[31m": tensor(0, 80)}, 8), r"ud800.u001b.31m"),
        (header({"__metadata__": {"format": "pt"}}, 0), "hold no tensors"),
    ],
)
def test_a_header_that_disagrees_with_itself_is_refused(
    tmp_path: Path, raw: bytes, words: str
) -> None:
    folder = write_checkpoint(tmp_path / "m")
    (folder / "model.safetensors").write_bytes(raw)
    with pytest.raises(CheckpointError, match=words):
        read_facts(spec(folder))


def test_a_tensor_without_a_dtype_is_counted_by_its_bytes(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m")
    named: dict[str, object] = {"a": {"shape": [4], "data_offsets": [0, 8]}}
    (folder / "model.safetensors").write_bytes(header(named, 8))
    assert read_facts(spec(folder)).tensor_bytes == 8


def test_a_header_of_100_megabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m")
    with (folder / "model.safetensors").open("wb") as file:
        file.write((100_000_000).to_bytes(8, "little"))
        file.truncate(200_000_000)  # a hole: reading it would give as many zeros
    with pytest.raises(CheckpointError, match="its header has 95 MiB, more than the 16"):
        read_facts(spec(folder))


def test_shards_of_two_checkpoints_in_one_directory_are_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m")
    write_safetensors(folder / "model-00001-of-00002.safetensors", {"a": ("BF16", 64)})
    write_safetensors(folder / "model-00002-of-00002.safetensors", {"c": ("BF16", 64)})
    with pytest.raises(CheckpointError, match='tensor "a" is in') as caught:
        read_facts(spec(folder))
    assert caught.value.hint is not None
    assert "keep one set" in caught.value.hint


def test_a_loop_of_links_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(CheckpointError, match="a symbolic link that leads nowhere"):
        read_facts(spec(tmp_path / "a"))
    folder = write_checkpoint(tmp_path / "m")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(folder / "config.json")
    with pytest.raises(CheckpointError, match=r"its config\.json leads nowhere"):
        read_facts(spec(folder))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pipe_in_the_place_of_a_file_does_not_block(tmp_path: Path, name: str) -> None:
    folder = write_checkpoint(tmp_path / "m")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(CheckpointError, match="not a plain file"):
        read_facts(spec(folder))


def test_a_directory_of_sentence_transformers_embeds_and_loads_no_head(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m")
    (folder / "modules.json").write_text("[]")
    assert arch_of(folder).embeddings


def test_the_draft_that_speculation_names_is_read_too(tmp_path: Path) -> None:
    target, draft = write_checkpoint(tmp_path / "m"), write_checkpoint(tmp_path / "d")
    asked = json.dumps({"model": str(draft), "num_speculative_tokens": 3})
    facts = read_facts(
        ModelSpec(index=0, name="m", model=str(target), extra_args=("--speculative-config", asked))
    )
    assert facts.draft is not None
    assert facts.draft.tensor_bytes == 5120


def test_a_truncated_download_is_found_without_reading_it(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match='"b" ends at byte 5120 of 5119'):
        read_facts(spec(folder))


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        read_facts(spec(tmp_path / "none"))


def test_a_directory_without_a_config_holds_no_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no model"):
        read_facts(spec(tmp_path))


def test_formats_whose_shape_is_not_read_are_models_all_the_same(tmp_path: Path) -> None:
    gguf = tmp_path / "m.gguf"
    gguf.write_bytes(b"GGUF")
    assert read_facts(spec(gguf)).here
    assert read_facts(spec(gguf)).architecture is None
    native = tmp_path / "native"
    native.mkdir()
    (native / "params.json").write_text("{}")
    write_safetensors(native / "consolidated.safetensors", {"x": ("BF16", 16)})
    assert read_facts(spec(native)).here
    assert read_facts(spec(native)).architecture is None


def test_a_config_without_weights_is_planned_but_not_here(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    facts = read_facts(spec(folder))
    assert facts.architecture is not None
    assert not facts.here
    assert read_facts(spec(folder, load_format="dummy")).here


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": None}, 'does not state "num_hidden_layers"'),
        ({"num_hidden_layers": "two"}, "whole number"),
        ({"num_hidden_layers": 10**9}, "outside of 1 to 2000"),
        ({"hidden_size": -1}, "outside of 1"),
        ({"num_attention_heads": 3}, "not divisible by 3"),
        ({"quantization_config": {"quant_method": "awq", "bits": 0}}, "bits"),
        ({"rope_scaling": {"type": "linear", "factor": 1e308}}, 'rope "factor" is 1e.308'),
    ],
)
def test_an_absurd_config_is_refused_with_the_key(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    folder = write_checkpoint(tmp_path / "m", config={**TINY, **change})
    with pytest.raises(CheckpointError, match=words):
        read_facts(spec(folder))


def test_a_truncated_config_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m")
    (folder / "config.json").write_text(json.dumps(TINY)[:40])
    with pytest.raises(CheckpointError, match="not JSON"):
        read_facts(spec(folder))


def test_a_base_model_has_no_template_and_one_without_settings_is_unknown(tmp_path: Path) -> None:
    assert arch_of(write_checkpoint(tmp_path / "base", chat=False)).chat_template is False
    assert arch_of(write_checkpoint(tmp_path / "bare", chat=None)).chat_template is None
    jinja = write_checkpoint(tmp_path / "jinja", chat=False)
    (jinja / "chat_template.jinja").write_text("{{ messages }}")
    assert arch_of(jinja).chat_template is True


def test_the_hub_s_cache_is_read_before_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--Qwen--Qwen2.5-7B-Instruct"
    assert read_facts(spec("Qwen/Qwen2.5-7B-Instruct")).source.startswith("catalogue")
    write_checkpoint(repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    facts = read_facts(spec("Qwen/Qwen2.5-7B-Instruct"))
    assert facts.here
    assert facts.tensor_bytes == 5120


def test_a_repository_that_nobody_knows_gives_no_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert read_facts(spec("nobody/nothing")).architecture is None


def test_an_unknown_type_is_computed_and_marked() -> None:
    assert not read_architecture(TINY).estimated
    assert read_architecture({**TINY, "model_type": "brand_new"}).estimated


def test_a_window_that_is_turned_off_does_not_count() -> None:
    windowed = {**TINY, "sliding_window": 1024}
    assert read_architecture(windowed).sliding_layers == 2
    assert read_architecture({**windowed, "use_sliding_window": False}).sliding_layers == 0
    kinds = {"layer_types": ["sliding_attention", "full_attention"]}
    assert read_architecture({**windowed, **kinds}).sliding_layers == 1


def test_an_embedding_model_is_told_from_one_that_generates() -> None:
    assert not read_architecture(TINY).embeddings
    assert read_architecture({**TINY, "architectures": ["XLMRobertaModel"]}).embeddings


def test_every_row_of_the_catalogue_is_a_model_with_a_source() -> None:
    rows = json.loads(CATALOGUE.read_text())["models"]
    assert len(rows) > 60
    for name, row in rows.items():
        repository, _, revision = name.partition("@")
        facts = catalogue_facts(repository, revision or None)
        assert facts.architecture is not None
        assert row["source"], name
        assert weights_bytes(facts.architecture) == row["weights_bytes"], name


def test_shapes_written_without_the_file_have_the_published_number_of_parameters() -> None:
    rows = json.loads(CATALOGUE.read_text())["models"]
    checked = 0
    for name, row in rows.items():
        if "params_b" in row:
            assert row["weights_bytes"] / 2e9 == pytest.approx(row["params_b"], rel=0.012), name
            checked += 1
    assert checked > 15
