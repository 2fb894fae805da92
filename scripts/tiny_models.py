#!/usr/bin/env python3
"""Writes two tiny Llama models, `coder` and `general`, for trying real vLLM without a GPU.

    .venv-vllm/bin/python scripts/tiny_models.py .demo/models

Three megabytes each, random weights from fixed seeds: they answer gibberish, through all of
vLLM. The same bytes come out each time; a directory that is complete is left as it is. Runs in
the environment of `scripts/make-venv-vllm`, which has torch and transformers.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

SEEDS = {"coder": 1, "general": 2}
CONTEXT_TOKENS = 2048
VOCABULARY = 512

# A byte-level tokenizer starts from 256 bytes; these lines give it some merges to learn.
CORPUS = {
    "coder": ["def add(a, b):\n    return a + b\n", "for name in names: print(name)\n"],
    "general": ["The river runs from the mountains to the sea. ", "Tell me about the weather. "],
}
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL_TOKENS = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    for name in SEEDS:
        if not (directory / name / "complete").is_file():
            write(name, directory)
            print(f"{directory / name}: written", file=sys.stderr)
    return 0


def write(name: str, directory: Path) -> None:
    """Write the model of that name below *directory*, whole or not at all."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    directory.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=directory))
    try:
        beside.chmod(0o755)
        end = write_tokenizer(beside, CORPUS[name])
        write_weights(beside, SEEDS[name], end)
        (beside / "complete").touch()
        shutil.rmtree(directory / name, ignore_errors=True)
        beside.rename(directory / name)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_tokenizer(directory: Path, corpus: list[str]) -> int:
    """Write a byte-level BPE tokenizer with a chat template; return the id of its end token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=SPECIAL_TOKENS,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|end|>",
        model_max_length=CONTEXT_TOKENS,
        chat_template=CHAT_TEMPLATE,
    )
    fast.save_pretrained(directory)
    return int(fast.eos_token_id)


def write_weights(directory: Path, seed: int, end: int) -> None:
    """Write the configuration and the weights, BF16, in one safetensors file."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_TOKENS,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=end,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)


if __name__ == "__main__":
    raise SystemExit(main())
