"""Requests that arrive wrapped: `{"query": "…", "language": "en"}` asks what its text asks.

Programs send prompts inside JSON or tags; the wrapper is syntax, and says nothing about what is
wanted. A pasted document is left alone: only a flat object or a pair of tags around a sentence.
"""

import json
import re

_LONGEST_CHARS = 4000
_MOST_KEYS = 8
# Words in a value that make it a sentence rather than a setting.
_SENTENCE_WORDS = 3
_TAGS = re.compile(
    r"\s*<(?!(?:html|div|p|ul|ol|table|svg|span|body|head)\b)([a-z_]+)(?: [^<>]*)?>(.*)</\1>\s*",
    re.DOTALL,
)
_FENCE = re.compile(r"```(?:json)?[ \t]*\n(?=\{)")


def may_be_wrapped(text: str) -> bool:
    """Whether `unwrapped` has anything to look at in *text*."""
    return text.lstrip()[:1] in ("{", "<") or ("\n{" in text and "```" in text)


def unwrapped(text: str) -> str:
    """Return the sentences inside a wrapper, or *text* itself where there is none."""
    if len(text) > _LONGEST_CHARS:
        return text
    start = text.lstrip()[:1]
    if start == "{":
        return _from_object(text)
    if start == "<":
        match = _TAGS.fullmatch(text)
        if match:
            inner = match.group(2)
            return unwrapped(inner) if len(inner.split()) >= _SENTENCE_WORDS else inner
    return _from_fence(text)


def _from_fence(text: str) -> str:
    """Return *text* with the first fenced object, if any, replaced by its sentences."""
    fence = _FENCE.search(text)
    end = text.find("```", fence.end()) if fence is not None else -1
    if fence is None or end == -1:
        return text
    fenced = text[fence.end() : end].rstrip()
    inner = _from_object(fenced)
    return text if inner == fenced else text[: fence.start()] + inner + text[end + 3 :]


def _from_object(text: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(value, dict) or len(value) > _MOST_KEYS:
        return text
    if len(value) == 1:  # {"request": {"prompt": "…"}}
        (only,) = value.values()
        value = only if isinstance(only, dict) and len(only) <= _MOST_KEYS else value
    if any(isinstance(v, dict | list) for v in value.values()):
        return text
    sentences = [
        v for v in value.values() if isinstance(v, str) and len(v.split()) >= _SENTENCE_WORDS
    ]
    return "\n".join(sentences) or text
