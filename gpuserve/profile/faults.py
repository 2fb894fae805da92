"""What the shape check found, in the words of a profile's author; and what can still be used.

`shape_faults` reports every value that `document` refuses. So that the rules across keys can be
checked in the same run, it also returns the document without the refused values.
"""

import copy
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gpuserve.errors import Problem
from gpuserve.profile import document, routetables
from gpuserve.profile.lines import KeyPath
from gpuserve.profile.source import Source, dotted
from gpuserve.profile.words import RESERVED, key_hint, near

_KINDS = {
    "string_type": "a string",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "an array",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "too_short": "at least one item",
    "string_too_short": "a string that is not empty",
}
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
# vLLM reads "16k" as 16000 and "16K" as 16384 (human_readable_int in vllm/utils).
_SHORT_COUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kKmM])")
_SHORT_FACTORS = {"k": 10**3, "m": 10**6, "K": 1 << 10, "M": 1 << 20}

KEYS: Mapping[str, frozenset[str]] = {
    "": frozenset(document.Document.model_fields),
    "server": frozenset(document.ServerTable.model_fields),
    "on_event": frozenset(document.OnEventTable.model_fields),
    "limits": frozenset(document.LimitsTable.model_fields),
    "model": frozenset(document.ModelTable.model_fields),
    "engine": frozenset(document.EngineTable.model_fields),
    "model.demand": frozenset(document.DemandTable.model_fields),
    "model.pinned": frozenset(document.PinTable.model_fields),
    "engine.demand": frozenset(document.DemandTable.model_fields),
    "upstream": frozenset(document.UpstreamTable.model_fields),
    "routing": frozenset(routetables.RoutingTable.model_fields),
    "route": frozenset(routetables.RouteTable.model_fields),
}


def shape_faults(
    tables: dict[str, Any], source: Source
) -> tuple[document.Document | None, dict[str, Any], list[Problem]]:
    """Return the checked document (None if faulty), the usable part of *tables*, the problems."""
    try:
        return document.Document.model_validate(tables), tables, []
    except ValidationError as error:
        details = error.errors(include_url=False)
    usable = copy.deepcopy(tables)
    problems = []
    for detail in details:
        path: KeyPath = tuple(detail["loc"])
        problems.append(_problem(path, detail, source))
        # A table within a model or within [engine] is incomplete, and of no use without it.
        if detail["type"] != "missing" or len(path) > 3 or path[0] == "engine":
            _drop(usable, path)
    return None, usable, problems


def _problem(path: KeyPath, detail: ErrorDetails, source: Source) -> Problem:
    where, kind, found = dotted(path), detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return _unknown_key(path, found, source)
    if kind == "missing":
        return source.problem(where, f"`{path[-1]}` is missing", _missing_hint(path))
    if kind == "value_error":
        fault = detail["ctx"]["error"]
        return source.problem(where, str(fault), getattr(fault, "hint", None))
    expected = _expected(detail)
    message = f"expected {expected}, found {describe(found)}"
    return source.problem(where, message, _value_hint(path, kind, found, detail))


def _unknown_key(path: KeyPath, found: object, source: Source) -> Problem:
    table = ".".join(part for part in path[:-1] if isinstance(part, str))
    key = str(path[-1])
    where = dotted(path)
    if key in RESERVED.get(table, ()):
        message = f"`{key}` is reserved for a later version of gpuserve; this one has no such key"
        return source.problem(where, message, "leave it out")
    if not table and key in {"models", "upstreams", "routes"} and isinstance(found, list | dict):
        return source.problem(where, f"unknown table `{key}`", f"write [[{key[:-1]}]]")
    noun = "table" if isinstance(found, dict | list) and not table else "key"
    return source.problem(where, f"unknown {noun} `{key}`", key_hint(table, key, KEYS))


def _expected(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _BOUNDS:
        limit, words = _BOUNDS[kind]
        return f"{words} {context[limit]}"
    if kind == "literal_error":
        return str(context["expected"]).replace("'", '"')
    return _KINDS.get(kind, detail["msg"])


def _missing_hint(path: KeyPath) -> str | None:
    if path[0] == "model" and path[-1] == "name":
        return 'for example: name = "coder"'
    if path[0] == "model" and path[-1] == "model":
        return 'a hub id or a directory, for example: model = "Qwen/Qwen2.5-Coder-7B-Instruct"'
    return None


# vLLM's own `auto` takes whatever length the memory allows, on a card that others share too.
_OWN_LENGTH = (
    "leave the key out: the length that the model was trained for is written then; vLLM's auto "
    "would take what a neighbour needs"
)


def _value_hint(path: KeyPath, kind: str, found: object, detail: ErrorDetails) -> str | None:
    if path in {("model",), ("upstream",), ("on_event",), ("route",)} and isinstance(found, dict):
        return f"write [[{path[0]}]], with two brackets"
    if path in {("server",), ("engine",), ("routing",)} and isinstance(found, list):
        return f"write [{path[0]}], with one pair of brackets"
    if kind == "literal_error" and isinstance(found, str):
        close = near(found, re.findall(r"'([^']*)'", str(detail["ctx"]["expected"])))
        return f'did you mean "{close}"?' if close else None
    if kind == "int_type" and isinstance(found, str):
        return _count_hint(path, found)
    if path == ("server", "workers") and kind == "less_than_equal":
        return "a router process takes up to one core: more of them than cores gain nothing"
    if found == -1 and kind in {"int_type", "greater_than_equal"}:
        return _OWN_LENGTH if path[-1] == "max_model_len" else "leave the key out"
    if kind == "bool_type" and isinstance(found, str) and found.lower() in {"true", "false"}:
        return f"write {found.lower()}, without quotes"
    if kind == "float_type" and isinstance(found, str):
        return "write the plain number, without quotes or unit"
    if kind == "list_type" and isinstance(found, str | int):
        return f"write [{describe(found)}]"
    return None


def _count_hint(path: KeyPath, found: str) -> str:
    short = _SHORT_COUNT.fullmatch(found.strip())
    if short:
        number, suffix = short.groups()
        count = round(float(number) * _SHORT_FACTORS[suffix])
        return f"write the plain number: {path[-1]} = {count}"
    if path[-1] == "max_model_len" and found == "auto":
        return _OWN_LENGTH
    return "write the plain number, without quotes"


def _drop(tables: dict[str, Any], path: KeyPath) -> None:
    """Remove the key of a table that *path* leads into, with everything in it.

    An item of an array, such as `[[model]]`, that is no table becomes an empty one, so that the
    others keep their index.
    """
    if len(path) == 1:
        tables.pop(str(path[0]), None)
    elif isinstance(path[1], int) and len(path) == 2:
        tables[str(path[0])][path[1]] = {}
    elif isinstance(path[1], int):
        tables[str(path[0])][path[1]].pop(path[2], None)
    else:
        tables[str(path[0])].pop(path[1], None)


def describe(value: object) -> str:
    """Return *value* as an author would write it, cut to one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = value if len(value) <= 60 else value[:57] + "…"
        return '"' + text.replace("\n", "\\n") + '"'
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"  # its digits may be too many to print
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array" if value else "an empty array"
    return f"a date or time ({value})"
