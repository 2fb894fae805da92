"""Who said what: the texts of a request that a verdict rests on, whatever API it came by.

Chat Completions, Responses and Messages put text in strings, lists of parts, or nowhere; bodies
come from strangers, so every shape is possible and every walk has an end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

# More parts, turns or tools than these are not looked at: the oldest turns decide nothing, and
# a request of a million parts must not cost a million looks.
_PARTS = 64
# Of text in many parts these are kept: more than any reader of a turn looks at.
_HEAD_CHARS = 3000
_TAIL_CHARS = 1000
_TURNS = 40
_EARLIER_TURNS = 4
_SCENE_TURNS = 2  # at the beginning, where a system prompt stands
_EARLIER_CHARS = 300
_REPLY_CHARS = 150
_TOOLS = 24


# A body without these keys says nothing about the scene but in its messages.
_SCENE_KEYS = frozenset(("system", "instructions", "tools"))


@dataclass(slots=True, kw_only=True)  # frozen, it would take three times as long to make
class Turns:
    """What was said last by the user, before that, and by the one who set the scene.

    Nobody changes one.

    `earlier` are the user's turns before the last, the latest first, `reply` is what the assistant
    said before the last; both shortened. `tools` are the names of the functions on offer and of
    those that were called. `answers_tool` is whether the request passes on what a tool returned.
    """

    last: str = ""
    earlier: tuple[str, ...] = ()
    reply: str = ""
    system: str = ""
    tools: tuple[str, ...] = ()
    answers_tool: bool = False


def turns_of(body: dict[str, Any]) -> Turns:
    """Return the turns of a request body: `messages`, `input` (Responses) or `prompt`."""
    messages = body.get("messages")
    if isinstance(messages, list) and body.keys().isdisjoint(_SCENE_KEYS):
        turns = _plain(messages)
        if turns is not None:
            return turns
    system = text_of(body.get("system")) or text_of(body.get("instructions"))
    tools = tuple(_tool_names(body.get("tools")))
    for key in ("messages", "input"):
        said = body.get(key)
        if isinstance(said, list):
            return _conversation(said, system=system, tools=tools)
        if isinstance(said, str):
            return Turns(last=said, system=system, tools=tools)
    return Turns(last=text_of(body.get("prompt")), system=system, tools=tools)


def text_of(content: object) -> str:
    """Return the text in *content*: a string, a list of parts, or anything else ("")."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    head = _join(islice(content, _PARTS), _HEAD_CHARS + _TAIL_CHARS)
    if len(content) <= _PARTS and len(head) < _HEAD_CHARS + _TAIL_CHARS:
        return head
    tail = _join(content[-_PARTS:], None)
    return f"{head[:_HEAD_CHARS]}\n{tail[-_TAIL_CHARS:]}"


def _join(parts: Iterable[object], limit: int | None) -> str:
    texts: list[str] = []
    size = 0
    for part in parts:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            texts.append(text)
            size += len(text)
            if limit is not None and size >= limit:
                break
    return "\n".join(texts)


def _plain(said: list[object]) -> Turns | None:
    """Return what `_conversation` does of messages with a role and a text; None of any other."""
    if len(said) > _TURNS:
        return None
    asked: list[str] = []
    scene: list[str] = []
    reply = ""
    at = len(said)
    for message in reversed(said):
        at -= 1
        if not isinstance(message, dict) or len(message) != 2:
            return None
        role, text = message.get("role"), message.get("content")
        if not isinstance(text, str):
            return None
        if role == "user":
            if text:
                asked.append(text)
        elif role == "assistant":
            if asked and not reply:
                reply = text[:_REPLY_CHARS]
        elif role not in ("system", "developer"):
            return None
        elif at < _SCENE_TURNS and text:
            scene.insert(0, text)
    return Turns(
        last=asked[0] if asked else "",
        earlier=tuple([text[:_EARLIER_CHARS] for text in asked[1 : 1 + _EARLIER_TURNS]]),
        reply=reply,
        system="\n".join(scene),
    )


def _conversation(said: Sequence[object], *, system: str, tools: tuple[str, ...]) -> Turns:
    # A turn that answers a tool call has no text of the user's: what the user said last before
    # it still stands, and so does the route.
    last: str | None = None
    earlier: list[str] = []
    reply = ""
    called: dict[str, None] = {}
    scene = [system] if system else []
    for message in reversed(said[-_TURNS:]):
        role, text = _turn(message)
        called.update(dict.fromkeys(_called(message)))
        if not text:
            continue
        if role == "user":
            if last is None:
                last = text
            elif len(earlier) < _EARLIER_TURNS:
                earlier.append(text[:_EARLIER_CHARS])
        elif role == "assistant" and last is not None and not reply:
            reply = text[:_REPLY_CHARS]
    for message in islice(said, _SCENE_TURNS):
        role, text = _turn(message)
        if role in ("system", "developer") and text:
            scene.append(text)
    return Turns(
        last=last or "",
        earlier=tuple(earlier),
        reply=reply,
        system="\n".join(scene),
        tools=(*tools, *called),
        answers_tool=bool(said) and _answers_tool(said[-1]),
    )


def _turn(message: object) -> tuple[str, str]:
    if isinstance(message, str):
        return "user", message
    if not isinstance(message, dict):
        return "", ""
    role = message.get("role")
    return (role if isinstance(role, str) else ""), text_of(message.get("content"))


def _called(message: object) -> Iterable[str]:
    """Yield the names of the functions that *message* calls, in the form of any of the APIs."""
    if not isinstance(message, dict):
        return
    if message.get("type") == "function_call" and isinstance(message.get("name"), str):
        yield message["name"][:64]
    calls = message.get("tool_calls")
    yield from _tool_names(calls)
    content = message.get("content")
    if isinstance(content, list):
        uses = [p for p in content[:_PARTS] if isinstance(p, dict) and p.get("type") == "tool_use"]
        yield from _tool_names(uses)


def _answers_tool(message: object) -> bool:
    """Whether *message* is what a tool returned, in the form of any of the three APIs."""
    if not isinstance(message, dict):
        return False
    if message.get("role") in ("tool", "function") or message.get("type") == "function_call_output":
        return True
    content = message.get("content")
    parts = content[:_PARTS] if isinstance(content, list) else ()
    return any(isinstance(p, dict) and p.get("type") == "tool_result" for p in parts)


def _tool_names(tools: object) -> Iterable[str]:
    if not isinstance(tools, list):
        return
    for tool in tools[:_TOOLS]:
        if not isinstance(tool, dict):
            continue
        function = tool.get("function")
        name = function.get("name") if isinstance(function, dict) else tool.get("name")
        if isinstance(name, str):
            yield name[:64]
