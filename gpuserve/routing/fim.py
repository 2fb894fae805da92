"""Fill-in-the-middle: a completion that is to stand between two pieces of code.

Editors send `suffix`, or a prompt with the special tokens that a family of models was trained
with.
"""

from typing import Any

# A file's path or a repository's name may stand before the first token.
_HEAD_CHARS = 4000
_TAIL_CHARS = 1000
# The tokens of a family; a prompt that holds one of each group is to be filled in. Sources: the
# tokenizers and cards of the models named.
_MARKS: tuple[tuple[tuple[str, ...], ...], ...] = (
    # Qwen2.5-Coder, CodeGemma, and others with the same words
    (("<|fim_prefix|>", "<|fim_suffix|>"), ("<|fim_middle|>",)),
    # StarCoder, Granite Code, Stable Code, Mellum; SantaCoder writes a hyphen
    (("<fim_prefix>", "<fim_suffix>"), ("<fim_middle>",)),
    (("<fim-prefix>", "<fim-suffix>"), ("<fim-middle>",)),
    # DeepSeek-Coder
    (("<｜fim▁begin｜>",), ("<｜fim▁hole｜>", "<｜fim▁end｜>")),
    # Code Llama
    (("<PRE>", "▁<PRE>"), ("<MID>", "▁<MID>")),
    # Codestral
    (("[SUFFIX]",), ("[PREFIX]",)),
    # Seed-Coder
    (("<[fim-suffix]>", "<[fim-prefix]>"), ("<[fim-middle]>",)),
    # GLM, which names its part of a file by tokens of its own
    (("<|code_prefix|>",), ("<|code_middle|>", "<|code_suffix|>")),
)


def is_fim(body: dict[str, Any]) -> bool:
    """Whether the completion request *body* asks to fill in a middle."""
    suffix = body.get("suffix")
    if isinstance(suffix, str) and suffix:
        return True
    prompt = body.get("prompt")
    if isinstance(prompt, list) and prompt:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        return False
    if len(prompt) > _HEAD_CHARS + _TAIL_CHARS:
        prompt = f"{prompt[:_HEAD_CHARS]}\n{prompt[-_TAIL_CHARS:]}"
    if "<" not in prompt and "[SUFFIX]" not in prompt:
        return False
    return any(all(any(mark in prompt for mark in group) for group in family) for family in _MARKS)
