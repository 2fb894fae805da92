"""What a model's files say, without loading them: a directory, the hub's cache, the catalogue.

Reads config.json, the tokenizer's settings and the headers of safetensors files, each bounded,
because a checkpoint may come from anywhere. Nothing is fetched.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpuserve.machine.checkpointfile import CheckpointError, is_lost_link, json_object
from gpuserve.machine.safetensors import tensors_of
from gpuserve.machine.weights import cached_snapshot, weights_here
from gpuserve.memory.architecture import Architecture, read_architecture
from gpuserve.memory.engine import ModelFacts
from gpuserve.memory.engineargs import read_engine_args
from gpuserve.memory.tensors import add_up
from gpuserve.profile.spec import ModelSpec

_CATALOGUE = Path(__file__).parent.parent / "data" / "catalogue.json"
_FLOAT32 = {"float32", "float"}


__all__ = ["CheckpointError", "catalogue_facts", "read_facts"]


def read_facts(spec: ModelSpec) -> ModelFacts:
    """Return what is known about the model of *spec*: from its files, else the catalogue.

    A hub id that is in neither gives facts without an architecture. Raises CheckpointError for
    a directory that is missing or holds no model, and for files that are damaged.
    """
    facts = _own_facts(spec)
    asked = read_engine_args(spec.extra_args).speculation
    if asked is None or asked.model is None:
        return facts
    # A draft takes the settings of its target, but for those that name files of the target.
    drafting = replace(spec, model=asked.model, revision=None, extra_args=(), quantization=None)
    return replace(facts, draft=_own_facts(drafting))


def _own_facts(spec: ModelSpec) -> ModelFacts:
    if spec.model.startswith("/"):
        return _directory_facts(Path(spec.model), spec)
    snapshot = cached_snapshot(spec.model, spec.revision)
    if snapshot is not None and (snapshot / "config.json").exists():
        return _directory_facts(snapshot, spec)
    return catalogue_facts(spec.model, spec.revision)


def catalogue_facts(repository: str, revision: str | None) -> ModelFacts:
    """Return the catalogue's row of *repository* at *revision*; without one, empty facts."""
    rows = json.loads(_CATALOGUE.read_text(encoding="utf-8"))["models"]
    row = rows.get(f"{repository}@{revision}" if revision else repository)
    if row is None:
        return ModelFacts(architecture=None)
    return ModelFacts(
        architecture=read_architecture(
            row["config"],
            chat_template=row.get("chat_template"),
            pooling=bool(row.get("pooling")),
        ),
        source=f"catalogue: {row['source']}",
    )


def _directory_facts(folder: Path, spec: ModelSpec) -> ModelFacts:
    if folder.suffix == ".gguf" and folder.is_file():
        return ModelFacts(architecture=None, here=True, source=str(folder))
    if not folder.is_dir():
        what = "is not a directory" if folder.exists() else "does not exist"
        if is_lost_link(folder):
            what = "is a symbolic link that leads nowhere"
        raise CheckpointError(
            f'the model directory "{folder}" {what}',
            "name a directory with config.json and weights, or a hub id such as "
            '"Qwen/Qwen2.5-7B-Instruct"',
        )
    here = spec.load_format == "dummy" or weights_here(str(folder))
    config_file = folder / "config.json"
    if not config_file.exists():
        if (folder / "params.json").exists():
            # Mistral's own format: vLLM reads it, its shape is not read here.
            return ModelFacts(architecture=None, here=here, source=str(folder / "params.json"))
        what = "leads nowhere" if is_lost_link(config_file) else "is not there"
        raise CheckpointError(
            f'"{folder}" holds no model: its config.json {what}',
            "name the directory that holds config.json and the weights",
        )
    config = json_object(config_file)
    arch = _architecture(
        config_file,
        config,
        chat_template=_chat_template(folder, spec),
        # vLLM takes a folder with this for a model of sentence-transformers, which embeds
        # (config/model.py, _get_default_runner_type).
        pooling=(folder / "modules.json").exists(),
    )
    files = _weight_files(folder)
    if not files or not all(path.exists() for path in files):
        return ModelFacts(architecture=arch, here=here, source=str(config_file))
    sums = add_up(
        tensors_of(files),
        layers=arch.layers,
        tied_embeddings=arch.tied_embeddings,
        keep_float32=_keeps_float32(arch, spec),
    )
    if not sums.total_bytes:
        raise CheckpointError(
            f"{folder}: its safetensors files hold no tensors",
            "the download is incomplete or damaged: fetch it again",
        )
    return ModelFacts(
        architecture=arch,
        tensor_bytes=sums.total_bytes,
        tensors=sums,
        here=here,
        source=str(config_file),
    )


def _architecture(
    file: Path, config: dict[str, Any], *, chat_template: bool | None, pooling: bool
) -> Architecture:
    try:
        return read_architecture(config, chat_template=chat_template, pooling=pooling)
    except ValueError as error:
        raise CheckpointError(
            f"{file}: {error}", "the file is damaged or of no language model: fetch it again"
        ) from error


def _keeps_float32(arch: Architecture, spec: ModelSpec) -> bool:
    # Quantized checkpoints keep some scales in float32, and vLLM loads them as they are.
    return spec.dtype in _FLOAT32 or arch.quantization is not None


def _chat_template(folder: Path, spec: ModelSpec) -> bool | None:
    """Whether the tokenizer has a template; None when its settings are not here."""
    if spec.tokenizer is not None:
        folder = Path(spec.tokenizer)
    if (folder / "chat_template.jinja").exists() or (folder / "chat_template.json").exists():
        return True
    file = folder / "tokenizer_config.json"
    if not file.exists():
        return None
    return bool(json_object(file).get("chat_template"))


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files that vLLM would load: those of the index, else all but copies."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        names = json_object(index).get("weight_map")
        if not isinstance(names, dict):
            raise CheckpointError(f'{index}: it has no "weight_map"', "fetch it again")
        files = {str(name) for name in names.values()}
        if any("/" in name or name.startswith(".") for name in files):
            raise CheckpointError(f"{index}: it names files outside of the directory")
        return [folder / name for name in sorted(files)]
    files_here = sorted(folder.glob("*.safetensors"))
    # Mistral's repositories hold the same weights twice, in their own format as well.
    plain = [path for path in files_here if not path.name.startswith("consolidated")]
    return plain or files_here
