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

from gpuserve.routing.search import LONG_BYTES, find

# How most requests begin whose first key it is.
_AT_FIRST = re.compile(rb'\{"model": ?"([ !#-\[\]-~]++)"[,}]')
# Beyond this it is cheaper to parse everything than to prove where the key stands.
_EDGE_BYTES = 4 << 10
_TOKEN = b'"model"'
# Only escapes of this form stand for the letters of the key: m 6d, o 6f, d 64, e 65, l 6c.
_ESCAPE = b"\\u006"
_S = rb"[ \t\r\n]*+"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# Pairs whose values are no lists and no objects.
_FLAT = _S + _STRING + _S + rb":" + _S + rb"(?:" + _STRING + rb"|[-+.0-9A-Za-z]++)" + _S
# A name that is spelled without escapes, and what follows it.
_VALUE = re.compile(_S + rb":" + _S + rb'"([ !#-\[\]-~]++)"' + _S + rb"([,}])")
_OPEN = re.compile(_S + rb"\{")
_FIRST = re.compile(_S + rb"\{" + _S + rb"(?:" + _FLAT + rb"," + _S + rb")*+")
_LAST = re.compile(_FLAT + rb"(?:," + _FLAT + rb")*+\}" + _S)


def model_in(raw: bytes, start: int = 0) -> str | None:
    """Return the model that the JSON object in *raw* from *start* on names; None is doubt."""
    spot = name_in(raw, start)
    return raw[spot[0] : spot[1]].decode("ascii") if spot is not None else None


def name_in(raw: bytes, start: int = 0) -> tuple[int, int] | None:
    """Return where that name, which is printable ASCII, begins and ends; None is doubt."""
    look = find if len(raw) >= LONG_BYTES else bytes.find
    # A search for one byte is ten times as fast, and where there is no backslash the last.
    escape = raw.find(b"\\", start)
    if escape >= 0 and look(raw, _ESCAPE, escape) >= 0:
        return None
    found = _AT_FIRST.match(raw, start)
    if found is not None:
        return found.span(1) if look(raw, _TOKEN, found.end()) < 0 else None
    at = look(raw, _TOKEN, start)
    if at < 0 or raw[at - 1] == 92:
        return None
    found = _VALUE.match(raw, at + 7)
    if found is None or look(raw, _TOKEN, found.end()) >= 0:
        return None
    # With a NUL, parsers take it for UTF-16 or UTF-32 (json.detect_encoding).
    if (raw[start] != 123 and _OPEN.match(raw, start) is None) or not raw[start + 1]:
        return None
    after = found.end()
    if len(raw) - after < at - start:
        whole = _ends(raw, after, found[2]) or _begins(raw, start, at)
    else:
        whole = _begins(raw, start, at) or _ends(raw, after, found[2])
    return found.span(1) if whole else None


def _begins(raw: bytes, start: int, at: int) -> bool:
    """Whether only whole pairs stand between the bracket of *raw* and *at*."""
    if at - start > _EDGE_BYTES:
        return False
    if _FIRST.fullmatch(raw, start, at) is not None:
        return True
    pairs = raw[start:at].rstrip(b" \t\r\n")
    return pairs.endswith(b",") and _is_object(pairs[:-1] + b"}")


def _ends(raw: bytes, at: int, behind: bytes) -> bool:
    """Whether only whole pairs stand between *at* and the last bracket of *raw*."""
    if len(raw) - at > _EDGE_BYTES:
        return False
    if behind == b"}":
        return not raw[at:].strip(b" \t\r\n")
    # Whatever is open at the name is closed behind it. With one bracket there, that is one object.
    if raw.find(b"}", at) == len(raw) - 1 and raw.find(b"]", at) < 0:
        return True
    return _LAST.fullmatch(raw, at) is not None or _is_object(b"{" + raw[at:])


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
