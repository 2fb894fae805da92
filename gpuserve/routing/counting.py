"""How to ask an engine what a prompt counts in its own tokens, and how to read its answer.

vLLM counts with the chat template and the tools in place (entrypoints/serve/tokenize, 0.32);
for Anthropic's Messages it has their own endpoint.
"""

import json
import re
from typing import Any

from gpuserve.routing.request import Need

# Both answers name the figure first; the tokens themselves, which may follow, are not read.
_COUNT = re.compile(rb'"(?:count|input_tokens)"[ \t\r\n]*:[ \t\r\n]*([0-9]{1,12})\b')
# What a chat template may read.
_CHAT_KEYS = ("messages", "tools", "chat_template", "chat_template_kwargs", "add_generation_prompt")
_MESSAGES_KEYS = ("messages", "system", "tools", "tool_choice")


def counting_request(need: Need, model: str) -> tuple[str, bytes] | None:
    """Return the path and the body that ask *model* for the tokens of *need*'s prompt.

    None where there is no such question: several prompts, parts that only Responses has.
    """
    body = need.body
    if need.task == "text":
        prompt = body.get("prompt")
        return ("/tokenize", _json({"prompt": prompt}, model)) if isinstance(prompt, str) else None
    if need.task != "chat":
        return None
    if "input" in body:
        said = _messages_of(body)
        return ("/tokenize", _json({"messages": said}, model)) if said else None
    if not isinstance(body.get("messages"), list):
        return None
    if "system" in body:  # of Messages; Chat Completions have no such key
        kept = {key: body[key] for key in _MESSAGES_KEYS if key in body}
        return "/v1/messages/count_tokens", _json(kept, model)
    return "/tokenize", _json({key: body[key] for key in _CHAT_KEYS if key in body}, model)


def counted(answer: bytes) -> int | None:
    """Return the tokens that *answer*, or its beginning, tells; None where it does not."""
    found = _COUNT.search(answer)
    return int(found[1]) if found else None


def _messages_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the turns of a Responses request as chat messages, empty where they are more."""
    said = body["input"]
    turns: list[dict[str, Any]] = []
    if isinstance(body.get("instructions"), str):
        turns.append({"role": "system", "content": body["instructions"]})
    if isinstance(said, str):
        return [*turns, {"role": "user", "content": said}]
    for item in said if isinstance(said, list) else ():
        content = item.get("content") if isinstance(item, dict) else None
        role = item.get("role") if isinstance(item, dict) else None
        if not isinstance(content, str) or not isinstance(role, str):
            return []
        turns.append({"role": role, "content": content})
    return turns


def _json(kept: dict[str, Any], model: str) -> bytes:
    return json.dumps({"model": model, **kept}).encode()
