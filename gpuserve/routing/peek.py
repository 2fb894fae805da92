"""The model that a JSON body names, found in its bytes where that is beyond doubt.

Building the document costs more than everything else that is done with a request for a named
model. What makes the shortcut right, for every document that a parser takes: a quote that no
backslash precedes begins or ends a string, and outside of strings there are no letters `model`;
so `"model"` without a backslash before it is a whole string, and with a colon behind it a key. It
is the only such key if it stands once and no key can be spelled with escapes. It is a key of the
outermost object if what stands before it, or what stands behind its value, is a row of whole pairs.
A document that no parser takes is refused by the engine, whatever model it seemed to name.
"""

import json
import re

# Beyond this it is cheaper to parse everything than to prove where the key stands.
_EDGE_BYTES = 4 << 10
_TOKEN = b'"model"'
# Only escapes of this form stand for the letters of the key: m 6d, o 6f, d 64, e 65, l 6c.
_ESCAPE = b"\\u006"
# A name that is spelled without escapes, and what follows it.
_VALUE = re.compile(rb'[ \t\r\n]*+:[ \t\r\n]*+"([ !#-\[\]-~]++)"[ \t\r\n]*+([,}])')
_FIRST = re.compile(rb"[ \t\r\n]*+\{[ \t\r\n]*+")
_LAST = re.compile(rb"[ \t\r\n]*+")


def model_in(raw: bytes, start: int = 0) -> str | None:
    """Return the model that the JSON object in *raw* from *start* on names; None is doubt."""
    at = raw.find(_TOKEN, start)
    if at < 0 or raw[at - 1] == 92 or raw.find(_TOKEN, at + 7) >= 0:
        return None
    if not raw[start + 1]:  # parsers take this for UTF-16 or UTF-32 (json.detect_encoding)
        return None
    found = _VALUE.match(raw, at + 7)
    if found is None or raw.find(_ESCAPE, start) >= 0 or _FIRST.match(raw, start) is None:
        return None
    if not (_first(raw, start, at) or _last(raw, found.end(2), found[2])):
        return None
    return found[1].decode("ascii")


def _first(raw: bytes, start: int, at: int) -> bool:
    """Whether only whole pairs stand between the bracket of *raw* and *at*."""
    if at - start > _EDGE_BYTES:
        return False
    if _FIRST.fullmatch(raw, start, at) is not None:
        return True
    pairs = raw[start:at].rstrip(b" \t\r\n")
    return pairs.endswith(b",") and _is_object(pairs[:-1] + b"}")


def _last(raw: bytes, at: int, behind: bytes) -> bool:
    """Whether only whole pairs stand between *at* and the last bracket of *raw*."""
    if len(raw) - at > _EDGE_BYTES:
        return False
    if behind == b"}":
        return _LAST.fullmatch(raw, at) is not None
    return _is_object(b"{" + raw[at:])


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
