"""Numbers out of a config.json, each checked: of the right type, and not absurd."""

from collections.abc import Mapping
from typing import Any

# Far above any published model; a larger number means a damaged or hostile file.
_LIMITS = {
    "num_hidden_layers": 2_000,
    "num_attention_heads": 10_000,
    "num_key_value_heads": 10_000,
    "head_dim": 65_536,
    "hidden_size": 1_000_000,
    "intermediate_size": 10_000_000,
    "vocab_size": 10_000_000,
}
_WIDEST = 1 << 40  # for keys without a limit of their own


def optional_number(text: Mapping[str, Any], *names: str) -> int | None:
    """Return the first of *names* that is stated, > 0; None without any.

    The limit of the first name holds for all of them. Raises ValueError, naming the key, for
    what is no whole number, is not positive, or is absurd.
    """
    limit = _LIMITS.get(names[0], _WIDEST)
    for name in names:
        value = text.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f'"{name}" must be a whole number, found {value!r:.60}')
        if not 0 < value <= limit:
            raise ValueError(f'"{name}" is {value}, outside of 1 to {limit}')
        return value
    return None


def number(text: Mapping[str, Any], *names: str) -> int:
    """Return the first of *names* that is stated; raises ValueError also where none is."""
    value = optional_number(text, *names)
    if value is None:
        raise ValueError(f'it does not state "{names[0]}"')
    return value


def count(text: Mapping[str, Any], name: str, limit: int) -> int:
    """Return *name*, which may be 0 or left out (0); raises ValueError beyond *limit*."""
    value = text.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= limit:
        raise ValueError(f'"{name}" must be a whole number of 0 to {limit}, found {value!r:.60}')
    return value


def flag(text: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """Return *name*, *default* where it is not stated; raises ValueError for what is no bool."""
    value = text.get(name)
    if value is None:
        return default
    if not isinstance(value, bool) and value not in (0, 1):
        raise ValueError(f'"{name}" must be true or false, found {value!r:.60}')
    return bool(value)
