"""Whether a model's files are here, whole; and which of a repository's files vLLM reads.

Standard library only: the answer "they are here" must cost nothing.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

_INDEXES = {
    # vLLM takes Mistral's own format first (model_loader/default_loader.py, load_format auto).
    "consolidated*.safetensors": "consolidated.safetensors.index.json",
    "*.safetensors": "model.safetensors.index.json",
    "*.bin": "pytorch_model.bin.index.json",
    "*.pt": None,
}
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<count>\d+)(?P<suffix>\.[a-z]+)")
_SMALL_SUFFIXES = {".json", ".txt", ".model", ".jinja", ".py", ".tiktoken", ".spm", ".vocab"}
# Copies of the weights in other formats, for other programs.
_OTHER_FORMATS = {"original", "onnx", "openvino", "coreml", "gguf", "tf", "flax"}


@dataclass(frozen=True, slots=True)
class RepositoryFile:
    """A file of a repository: its path, its size, and its name in the cache."""

    path: str
    size_bytes: int
    blob: str


def hub_cache(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the hub's cache, as huggingface_hub finds it (its constants.py)."""
    named = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE")
    if named:
        return Path(os.path.expandvars(named)).expanduser()
    home = environment.get("HF_HOME")
    if not home:
        home = str(Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def cached_snapshot(repository: str, revision: str | None) -> Path | None:
    """Return the directory of *repository* in the hub's cache, or None."""
    folder = hub_cache() / f"models--{repository.replace('/', '--')}"
    wanted = revision or "main"
    try:
        commit = (folder / "refs" / wanted).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        commit = wanted  # it may be a commit itself
    snapshot = folder / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def settings_here(model: str, revision: str | None = None) -> bool:
    """Return whether what stands beside the weights of *model* is here."""
    folder = Path(model) if model.startswith("/") else cached_snapshot(model, revision)
    names = ("config.json", "tokenizer_config.json", "tokenizer.json", "params.json")
    return folder is not None and any((folder / name).exists() for name in names)


# What tokenizers of the families that vLLM serves are stored in: Hugging Face's own,
# SentencePiece, BPE of the GPT-2 kind, BERT's, tiktoken's, Mistral's.
_TOKENIZERS = (
    *("tokenizer.json", "tokenizer.model", "tokenizer.model.v*", "spiece.model"),
    *("sentencepiece.bpe.model", "vocab.json", "vocab.txt", "*.tiktoken", "tekken.json"),
)


def tokenizer_here(folder: Path) -> bool:
    """Return whether the directory *folder* holds a tokenizer."""
    return any(any(folder.glob(pattern)) for pattern in _TOKENIZERS)


def weights_here(model: str, revision: str | None = None) -> bool:
    """Return whether *model*, a directory or a hub id, can be loaded without a network.

    A fetch that was cut short does not count: small files come first and weights last, so
    whole weights mean that all is here.
    """
    folder = Path(model) if model.startswith("/") else cached_snapshot(model, revision)
    if folder is None or not folder.is_dir():
        return False
    configured = (folder / "config.json").exists() or (folder / "params.json").exists()
    return configured and _weights_whole(folder)


def small_files(files: Iterable[RepositoryFile]) -> list[RepositoryFile]:
    """Return configuration, tokenizer, templates and code: what is read beside the weights."""
    return [
        file
        for file in files
        if PurePosixPath(file.path).suffix in _SMALL_SUFFIXES
        and PurePosixPath(file.path).parts[0] not in _OTHER_FORMATS
    ]


def weight_files(
    files: Iterable[RepositoryFile], folder: Path, load_format: str | None
) -> list[RepositoryFile]:
    """Return the files that vLLM loads weights from: one format, and no copies in another.

    *folder* is the snapshot with the small files: an index in it names the shards.
    """
    if load_format == "dummy":
        return []
    by_path = {file.path: file for file in files}
    patterns = ["*.safetensors"] if load_format == "safetensors" else list(_INDEXES)
    for pattern in patterns:
        # Only the top: a pattern of fnmatch would match "original/x.safetensors" too.
        matches = [path for path in by_path if "/" not in path and fnmatch(path, pattern)]
        if not matches:
            continue
        named = _named_by_index(folder, _INDEXES[pattern])
        chosen = [path for path in by_path if path in named] if named else matches
        return [by_path[path] for path in chosen]
    return []


def _weights_whole(folder: Path) -> bool:
    for pattern, index in _INDEXES.items():
        present = {path.name for path in folder.glob(pattern) if path.exists()}
        if not present:
            continue
        named = _named_by_index(folder, index)
        wanted = named or {name for shard in present for name in _siblings(shard)}
        return all((folder / name).exists() for name in wanted)
    return False


def _named_by_index(folder: Path, index: str | None) -> set[str]:
    if index is None:
        return set()
    try:
        names = json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()
    return {name for name in names if isinstance(name, str)}


def _siblings(name: str) -> list[str]:
    """Return every shard of the set that *name*, such as `x-00001-of-00003.bin`, belongs to."""
    match = _SHARD.fullmatch(name)
    if match is None:
        return [name]
    width, count = len(match["number"]), int(match["count"])
    return [
        f"{match['stem']}-{number:0{width}}-of-{match['count']}{match['suffix']}"
        for number in range(1, count + 1)
    ]
