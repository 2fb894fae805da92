"""What the user said, the newest first, as far as rules read it: bounded, whatever the body is.

A rule's words may stand anywhere in a prompt, so more of it is read than a verdict needs; but
not the middle of a pasted file, nor the whole of a long conversation.
"""

from collections.abc import Iterator
from typing import Any

# Of the last turn, and of each turn before it.
HEAD_CHARS = 16_000
TAIL_CHARS = 4_000
EARLIER_CHARS = 2_000
EARLIER_TURNS = 20
# Messages and parts that are looked at; tool calls may lie between two turns of the user.
_MESSAGES = 200
_PARTS = 64
_SYSTEM_CHARS = 20_000
_TOOLS = 256


def said(body: dict[str, Any]) -> list[str]:
    """Return the user's turns in *body*, the last one first, each cut to its window."""
    texts = [text for text in _user_texts(body) if text]
    if not texts:
        return []
    last, *earlier = texts
    return [_window(last), *(text[:EARLIER_CHARS] for text in earlier)]


def system(body: dict[str, Any]) -> str:
    """Return the system prompt of *body*, whatever API it came by."""
    scene = [
        message.get("content")
        for message in _messages(body)[:4]
        if isinstance(message, dict) and message.get("role") in ("system", "developer")
    ]
    texts = [_text(content) for content in (body.get("system"), body.get("instructions"), *scene)]
    return "\n".join(text for text in texts if text)[:_SYSTEM_CHARS]


def tool_names(body: dict[str, Any]) -> list[str]:
    """Return the names of the tools on offer; "" for one that has none."""
    tools = body.get("tools")
    found = []
    for tool in tools[:_TOOLS] if isinstance(tools, list) else ():
        if not isinstance(tool, dict):
            continue
        function = tool.get("function")
        name = function.get("name") if isinstance(function, dict) else tool.get("name")
        found.append(name[:128] if isinstance(name, str) else "")
    return found


def _user_texts(body: dict[str, Any]) -> Iterator[str]:
    messages = _messages(body)
    if not messages:
        for key in ("input", "prompt"):
            if key in body:
                yield _text(body[key])
                return
        return
    count = 0
    for message in reversed(messages[-_MESSAGES:]):
        if isinstance(message, str):
            text = message
        elif isinstance(message, dict) and message.get("role") == "user":
            text = _text(message.get("content"))
        else:
            continue
        if text:
            yield text
            count += 1
            if count > EARLIER_TURNS:
                return


def _messages(body: dict[str, Any]) -> list[Any]:
    for key in ("messages", "input"):
        value = body.get(key)
        if isinstance(value, list):
            return value
    return []


def _text(content: object) -> str:
    """Return the text in *content*: a string, a list of parts, or anything else ("")."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = content if len(content) <= 2 * _PARTS else content[:_PARTS] + content[-_PARTS:]
    texts = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            texts.append(_window(text))
    return "\n".join(texts)


def _window(text: str) -> str:
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        return text
    return f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"
