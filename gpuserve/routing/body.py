"""Request bodies: read strictly, and changed only in the model's name and in max_tokens.

Engines get the bytes that the client sent. Where the router chose the model its name is put in,
and where the profile says so max_tokens is lowered: in place where the key is found beyond
doubt, else by writing the document anew.
"""

import json
import re
from collections.abc import Sequence
from itertools import islice
from typing import Any

from gpuserve.routing.peek import name_in

# A string of the parsed document has an end, so nothing is ever tried twice, nor remembered.
_KEY = re.compile(rb'(?<!\\)"model"[ \t\r\n]*+:[ \t\r\n]*+("(?:[^"\\]|\\.)*+")')
_NUMBER = r'(?<!\\)"%s"[ \t\r\n]*+:[ \t\r\n]*+([0-9]++)(?=[ \t\r\n]*+[,}])'
# Each list and each object costs 60 bytes of memory and more for 3 bytes of body. Contexts of a
# million tokens need no more of them than this, and images in base64 have none.
_MOST_BRACKETS = 1 << 20


class BadBody(ValueError):
    """The body is not what an endpoint takes; the message is for the client."""


class Dense(Exception):
    """The body holds more objects than were to be read."""


def parse_object(raw: bytes, most_objects: int | None = None) -> dict[str, Any]:
    """Return the JSON object that *raw* holds.

    Raises Dense when it holds more than *most_objects*, None for any number: an object takes as
    long to read as hundreds of bytes of text. Raises BadBody when it is not UTF-8, no JSON, no
    object, nested too deeply, made of brackets mostly, or names a key twice: engines and routers
    disagree about which of the two counts.
    """
    if not raw or raw.isspace():
        raise BadBody("the body is empty; expected a JSON object")
    if len(raw) > _MOST_BRACKETS and raw.count(b"{") + raw.count(b"[") > _MOST_BRACKETS:
        raise BadBody(f"the body has more than {_MOST_BRACKETS:,} opening brackets")
    try:
        decoder = _DECODER if most_objects is None else _giving_up(most_objects)
        value = decoder.decode(raw.decode())
    except UnicodeDecodeError as error:
        raise BadBody(f"the body is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise BadBody("the body is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise BadBody(
            f"the body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from error
    except BadBody:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise BadBody(f"the body is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadBody(f"the body is a JSON {_kind(value)}; expected an object")
    return value


def model_of(body: dict[str, Any]) -> str | None:
    """Return the model that *body* names, None when it names none; raises BadBody."""
    model = body.get("model")
    if model is None or model == "":
        return None
    if not isinstance(model, str):
        raise BadBody(f'"model" is a JSON {_kind(model)}; expected a string')
    return model


def with_model(raw: bytes, body: dict[str, Any], model: str) -> bytes:
    """Return *raw*, whose content is *body*, naming *model* instead of what it names, if any."""
    name = json.dumps(model).encode()
    spot = name_in(raw)
    if spot is not None:
        return raw[: spot[0] - 1] + name + raw[spot[1] + 1 :]
    # A key may be spelled with escapes ("\\u006dodel"); then only the parser knows it.
    plain = b"\\u00" not in raw
    found = list(islice(_KEY.finditer(raw), 2))
    if plain and "model" in body and len(found) == 1 and isinstance(body["model"], str):
        start, end = found[0].span(1)
        return raw[:start] + name + raw[end:]
    if plain and "model" not in body:
        at = raw.index(b"{") + 1
        comma = b"," if body else b""
        return raw[:at] + b'"model":' + name + comma + raw[at:]
    return json.dumps({**body, "model": model}).encode()


def with_numbers(
    raw: bytes, body: dict[str, Any], edits: Sequence[tuple[str, int]]
) -> tuple[bytes, dict[str, Any]]:
    """Return *raw* and its content *body*, with the numbers of *edits* instead of theirs.

    Each edit is a key of the body, which has a number there, and the new number.
    """
    for key, number in edits:
        body = {**body, key: number}
        found = list(islice(re.finditer((_NUMBER % re.escape(key)).encode(), raw), 2))
        if len(found) == 1 and b"\\u00" not in raw:
            start, end = found[0].span(1)
            raw = raw[:start] + str(number).encode() + raw[end:]
        else:
            raw = json.dumps(body).encode()
    return raw, body


def as_sent(
    raw: bytes, body: dict[str, Any], *, model: str | None, edits: Sequence[tuple[str, int]] = ()
) -> bytes:
    """Return *raw*, whose content is *body*, as an upstream gets it.

    *model* is the name to put in, None to leave it; *edits* as for `with_numbers`. What is no
    JSON object (*body* is empty) stays as it is.
    """
    if not body:
        return raw
    if edits:
        raw, body = with_numbers(raw, body, edits)
    return raw if model is None else with_model(raw, body, model)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise BadBody(f"the key {json.dumps(key[:64])} stands twice in one object")
            seen.add(key)
    return found


def _giving_up(most_objects: int) -> json.JSONDecoder:
    left = iter(range(most_objects))

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if next(left, None) is None:
            raise Dense
        return _unique(pairs)

    return json.JSONDecoder(object_pairs_hook=unique)


# Made once: `json.loads` makes one for each call that has a hook.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _kind(value: object) -> str:
    if value is None:
        return "null"
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return kinds.get(type(value), "object")
