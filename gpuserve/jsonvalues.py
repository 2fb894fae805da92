"""Frozen dataclasses to JSON and back, for the files that the processes of an instance share.

Only what those files hold: dataclasses, tuples, dicts, unions with None, literals and scalars.
pydantic would do it too, but costs the router and the commands 70 ms of start.
"""

import dataclasses
import json
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")


def dumps(value: object) -> bytes:
    """Return *value*, a dataclass, as JSON."""
    return json.dumps(plain(value), ensure_ascii=False, separators=(",", ":")).encode()


def plain(value: object) -> Any:
    """Return *value* as dicts, lists and scalars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def loads(cls: type[T], text: bytes | str) -> T:
    """Return the *cls* that *text* holds; unknown keys are ignored.

    Raises ValueError when *text* is no JSON or a key is missing or of the wrong type.
    """
    return typing.cast("T", build(cls, json.loads(text)))


def build(kind: Any, value: Any) -> Any:
    """Return *value*, made of dicts, lists and scalars, as *kind*; raises ValueError."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        arms = typing.get_args(kind)
        if value is None and type(None) in arms:
            return None
        (arm,) = [a for a in arms if a is not type(None)]
        return build(arm, value)
    if origin is typing.Literal:
        if value not in typing.get_args(kind):
            raise ValueError(f"expected one of {typing.get_args(kind)}, found {value!r}")
        return value
    if origin is tuple:
        args = typing.get_args(kind)
        if not isinstance(value, list):
            raise ValueError(f"expected a list, found {value!r}")
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(build(args[0], item) for item in value)
        if len(args) != len(value):
            raise ValueError(f"expected {len(args)} items, found {len(value)}")
        return tuple(build(arm, item) for arm, item in zip(args, value, strict=True))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"expected an object, found {value!r}")
        hints = typing.get_type_hints(kind)
        known = {f.name for f in dataclasses.fields(kind)}
        try:
            return kind(**{k: build(hints[k], v) for k, v in value.items() if k in known})
        except TypeError as error:
            raise ValueError(str(error)) from error
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and not isinstance(value, kind):
        raise ValueError(f"expected {kind.__name__}, found {value!r}")
    return value
