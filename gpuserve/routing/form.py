"""The model that a multipart form names, read without reading the files in it.

RFC 2046 (section 5.1) and RFC 7578 say how a form is written. Delimiters are searched for, heads
are read up to a bound, and contents are skipped: the time grows with the size and no faster,
whatever the form holds.
"""

import re
from collections.abc import Iterator
from itertools import chain

from gpuserve.routing.body import BadBody

# Starlette, which engines read forms with, takes 1,000 files and 1,000 fields (Request.form).
MOST_PARTS = 2000
# A part's head is three short lines; aiohttp allows this much for one line of a request's head.
_HEAD_BYTES = 8190
_NAME_BYTES = 256

_PARAMETER = re.compile(r';[ \t]*([^=;"\s]{1,64})=(?:"((?:[^"\\]|\\.)*+)"|([^;"\s]*))')


def form_model(raw: bytes, content_type: str) -> str | None:
    """Return the field `model` of the form *raw*, None where there is none.

    *content_type* is the request's header, which names the boundary. Raises BadBody where it
    names none, where the field stands twice, is longer than any model's name or has no end, and
    where the form has more than MOST_PARTS parts.
    """
    boundary = _parameter(content_type, "boundary")
    if not boundary:
        raise BadBody("the Content-Type of the form names no boundary")
    line = b"\r\n--" + boundary.encode("utf-8", "surrogateescape")
    models = [_content(raw, at, line) for at, name in _fields(raw, line) if name == "model"]
    if len(models) > 1:
        raise BadBody('the field "model" stands twice in the form')
    return models[0] or None if models else None


def _fields(raw: bytes, line: bytes) -> Iterator[tuple[int, str | None]]:
    """Yield where the content of each part begins, and the name of its field."""
    for count, at in enumerate(_delimited(raw, line)):
        if count == MOST_PARTS:
            raise BadBody(f"the form has more than {MOST_PARTS:,} parts")
        end = raw.find(b"\r\n\r\n", at, at + _HEAD_BYTES)
        if end != -1:
            yield end + 4, _field_name(raw[at:end])


def _delimited(raw: bytes, line: bytes) -> Iterator[int]:
    """Yield where each delimiter ends, up to the one that closes the form."""
    # A line break or blanks follow; anything else is content that begins like the boundary.
    behind = rb"(?:(--)|(?=\r\n|[ \t]))"
    first = re.match(re.escape(line[2:]) + behind, raw)  # which need not follow a line
    further = re.finditer(re.escape(line) + behind, raw)
    for found in chain((first,) if first else (), further):
        if found.group(1) is not None:
            return
        yield found.end()


def _field_name(head: bytes) -> str | None:
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.strip().lower() == b"content-disposition":
            return _parameter(value.decode("utf-8", "replace"), "name")
    return None


def _content(raw: bytes, start: int, line: bytes) -> str:
    # The CRLF before the delimiter may be the one that ends the head: then there is no content.
    end = raw.find(line, start - 2, start + _NAME_BYTES + len(line))
    if end == -1:
        raise BadBody(f'the field "model" of the form has no end within {_NAME_BYTES} bytes')
    return raw[start:end].decode("utf-8", "replace")


def _parameter(header: str, name: str) -> str | None:
    for key, quoted, plain in _PARAMETER.findall(header):
        if key.lower() == name:
            return re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
    return None
