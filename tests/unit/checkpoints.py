"""Writes small checkpoints: the files that a plan reads, with tensors of zeros."""

import json
from pathlib import Path
from typing import Any

TINY: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 2048,
}


def write_safetensors(path: Path, tensors: dict[str, tuple[str, int]]) -> None:
    """Write a file with tensors of (dtype, bytes), each of one dimension."""
    width = {"F32": 4, "BF16": 2, "F16": 2}
    header: dict[str, Any] = {}
    offset = 0
    for name, (dtype, size) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": [size // width.get(dtype, 1)],
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(offset))


def write_checkpoint(
    folder: Path, *, chat: bool | None = True, config: dict[str, Any] | None = None
) -> Path:
    """Write a whole tiny model; `chat` None leaves the tokenizer's settings out."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(TINY if config is None else config))
    write_safetensors(folder / "model.safetensors", {"a": ("BF16", 4096), "b": ("BF16", 1024)})
    if chat is not None:
        settings = {"chat_template": "{{ messages }}"} if chat else {"model_max_length": 2048}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
