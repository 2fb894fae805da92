"""Bytes inside, GiB at the edges: parse sizes on the way in, print them on the way out."""

import re

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

_UNITS = {"KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": 1 << 40}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


def parse_bytes(text: str) -> int:
    """Return the byte count (> 0) that *text*, such as `"50 GiB"` or `"512 MiB"`, stands for.

    Raises ValueError, with a sentence for the author of a profile, when there is no
    unit, a decimal unit, or nothing that reads as a size.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f'expected a size such as "20 GiB", found "{text}"')
    number, unit = match.groups()
    if not unit:
        raise ValueError(f'a size needs a unit: write "{number} GiB" or "{number} MiB"')
    if unit not in _UNITS:
        # GB is refused rather than guessed: cards are sold in GB, drivers count in GiB, and
        # on an 80 GB card the two readings differ by more than a 7B model's weights in 4 bit.
        by_case = {known.lower(): known for known in _UNITS}
        if unit.lower() in by_case:
            raise ValueError(f'the unit "{unit}" is written "{by_case[unit.lower()]}"')
        if unit.upper() in {"B", "KB", "MB", "GB", "TB", "K", "M", "G", "T"}:
            raise ValueError(
                f'"{unit}" is refused because it is ambiguous: cards are sold in GB '
                f"(10^9 bytes), drivers and vLLM count in GiB (2^30 bytes), 7 % apart; "
                f'write "{number} GiB" or "{number} MiB"'
            )
        raise ValueError(f'unknown unit "{unit}": use GiB or MiB')
    count = round(float(number) * _UNITS[unit])
    if count <= 0:
        raise ValueError(f'a size must be larger than zero, found "{text}"')
    return count


def mib(count_bytes: int) -> str:
    """Return *count_bytes* for people, as `"32 MiB"` or `"28.44 MiB"`."""
    return f"{round(count_bytes / MIB, 2):.12g} MiB"


def gib(count_bytes: int, digits: int = 2) -> str:
    """Return *count_bytes* for people, as `"15.30 GiB"`."""
    return f"{count_bytes / GIB:.{digits}f} GiB"
