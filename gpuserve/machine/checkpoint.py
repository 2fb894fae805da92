"""What a model's files say, without loading them: a directory, the hub's cache, the catalogue.

Reads config.json, the tokenizer's settings and the headers of safetensors files, each bounded,
because a checkpoint may come from anywhere. Nothing is fetched.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpuserve.machine.weights import cached_snapshot, weights_here
from gpuserve.memory.architecture import Architecture, read_architecture
from gpuserve.memory.engine import ModelFacts
from gpuserve.profile.spec import ModelSpec

# The format's own limit for a header (safetensors, MAX_HEADER_SIZE).
_LARGEST_HEADER_BYTES = 100_000_000
# Tokenizer settings with thousands of added tokens stay below 1 MiB, indexes of 400 files too.
_LARGEST_JSON_BYTES = 64 << 20
_CATALOGUE = Path(__file__).parent.parent / "data" / "catalogue.json"
_FLOAT32 = {"float32", "float"}


class CheckpointError(ValueError):
    """Files that cannot be a model; `hint` says what to do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def read_facts(spec: ModelSpec) -> ModelFacts:
    """Return what is known about the model of *spec*: from its files, else the catalogue.

    A hub id that is in neither gives facts without an architecture. Raises CheckpointError for
    a directory that is missing or holds no model, and for files that are damaged.
    """
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
        architecture=read_architecture(row["config"], chat_template=row.get("chat_template")),
        source=f"catalogue: {row['source']}",
    )


def _directory_facts(folder: Path, spec: ModelSpec) -> ModelFacts:
    if folder.suffix == ".gguf" and folder.is_file():
        return ModelFacts(architecture=None, here=True, source=str(folder))
    if not folder.is_dir():
        what = "is not a directory" if folder.exists() else "does not exist"
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
        raise CheckpointError(
            f'"{folder}" holds no model: there is no config.json',
            "name the directory that holds config.json and the weights",
        )
    config = _json_object(config_file)
    arch = _architecture(config_file, config, chat_template=_chat_template(folder, spec))
    files = _weight_files(folder)
    tensors = None
    if files and all(path.exists() for path in files):
        tensors = _loaded_bytes(files, keep_float32=_keeps_float32(arch, spec))
    return ModelFacts(architecture=arch, tensor_bytes=tensors, here=here, source=str(config_file))


def _architecture(
    file: Path, config: dict[str, Any], *, chat_template: bool | None
) -> Architecture:
    try:
        return read_architecture(config, chat_template=chat_template)
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
    return bool(_json_object(file).get("chat_template"))


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files that vLLM would load: those of the index, else all but copies."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        names = _json_object(index).get("weight_map")
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


def _loaded_bytes(files: list[Path], *, keep_float32: bool) -> int:
    total = 0
    for file in files:
        for dtype, size in _tensors(file):
            total += size if keep_float32 or dtype != "F32" else size // 2
    return total


def _tensors(file: Path) -> Iterator[tuple[str, int]]:
    """Yield (dtype, bytes) of each tensor that the header of a safetensors *file* lists."""

    def damaged(what: str) -> CheckpointError:
        return CheckpointError(f"{file}: {what}", "the download is incomplete: fetch it again")

    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= min(_LARGEST_HEADER_BYTES, size - 8):
                raise damaged(f"its header claims {length} bytes of a file of {size}")
            header = json.loads(stream.read(length))
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise damaged("its header is not JSON") from error
    if not isinstance(header, dict):
        raise damaged("its header is not a JSON object")
    room = size - 8 - length
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = _offsets(entry)
        if not 0 <= begin <= end <= room:
            raise damaged(f'the tensor "{name:.80}" ends at byte {end} of {room}')
        yield str(entry.get("dtype")), end - begin


def _offsets(entry: Any) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if isinstance(offsets, list) and len(offsets) == 2 and all(type(n) is int for n in offsets):
        return offsets[0], offsets[1]
    return 0, -1


def _json_object(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            raw = stream.read(_LARGEST_JSON_BYTES + 1)
        if len(raw) > _LARGEST_JSON_BYTES:
            raise CheckpointError(f"{file}: larger than {_LARGEST_JSON_BYTES >> 20} MiB")
        value = json.loads(raw)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{file}: not JSON", "the file is damaged or incomplete: fetch it again"
        ) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: expected a JSON object")
    return value
