"""Hardware that is not here: a machine file, or the shorthand `--gpu "NVIDIA L4:2"`."""

import re
from pathlib import Path
from typing import Any

from gpuserve.errors import Problem, ProfileError, UsageError
from gpuserve.machine.cards import Card, cards, find_card, nearest_cards
from gpuserve.profile.source import Source
from gpuserve.profile.tomlfile import read_toml
from gpuserve.profile.words import near
from gpuserve.readings import Gpu, Host, Machine
from gpuserve.units import GIB

_SHORTHAND = re.compile(r"(?P<name>.*?)(?::(?P<count>\d+))?", re.DOTALL)
_VERSION = re.compile(r"v?\d+\.\d+")
_MOST_GPUS = 64
_KEYS = {
    "": {"gpu", "host"},
    "gpu": {"name", "total_gib", "free_gib"},
    "host": {"ram_gib", "cpus", "vllm_version"},
}


def parse_gpu_shorthand(text: str) -> Machine:
    """Return a machine with the cards that *text*, as `"NVIDIA L4:2"`, names, all of them free.

    Its RAM is 0, which says "not stated". Raises UsageError for a card that is not in the
    catalogue, with the nearest ones.
    """
    match = _SHORTHAND.fullmatch(text.strip())
    name = match["name"].strip() if match else ""
    count = int(match["count"]) if match and match["count"] else 1
    if not name or not 1 <= count <= _MOST_GPUS:
        raise UsageError(
            f'expected a card and how many, such as "NVIDIA L4:2", found "{text}"',
            hint=f"1 to {_MOST_GPUS} cards",
        )
    card = find_card(name)
    if card is None:
        raise UsageError(
            f'no card "{name}" in the catalogue: {_suggestion(name)}',
            hint="a machine file can state any card: name and total_gib of a [[gpu]]",
        )
    gpus = tuple(_gpu(index, card.name, card) for index in range(count))
    return Machine(gpus=gpus, host=_host({}))


def load_machine(path: Path) -> Machine:
    """Return the machine that the file *path* describes; what it leaves out is free, RAM is 0.

    Raises ProfileError with every problem at once, each with file and line.
    """
    tables, source = read_toml(path, kind="machine file")
    problems = list(_problems(tables, source))
    if problems:
        raise ProfileError(problems)
    gpus = tuple(_stated_gpu(index, row) for index, row in enumerate(tables.get("gpu", [])))
    return Machine(gpus=gpus, host=_host(tables.get("host", {})))


def _stated_gpu(index: int, row: dict[str, Any]) -> Gpu:
    card = find_card(row["name"])
    total = round(row["total_gib"] * GIB) if "total_gib" in row else None
    free = round(row["free_gib"] * GIB) if "free_gib" in row else None
    return _gpu(index, row["name"], card, total_bytes=total, free_bytes=free)


def _gpu(
    index: int,
    name: str,
    card: Card | None,
    *,
    total_bytes: int | None = None,
    free_bytes: int | None = None,
) -> Gpu:
    total = total_bytes or (card.total_bytes if card else 0)
    return Gpu(
        index=index,
        name=name,
        total_bytes=total,
        free_bytes=total if free_bytes is None else free_bytes,
        compute_capability=card.compute_capability if card else None,
    )


def _host(row: dict[str, Any]) -> Host:
    ram = round(row.get("ram_gib", 0) * GIB)
    version = row.get("vllm_version")
    cpus = row.get("cpus", 1)
    return Host(ram_total_bytes=ram, ram_available_bytes=ram, cpus=cpus, vllm_version=version)


def _problems(tables: dict[str, Any], source: Source) -> list[Problem]:
    found = _unknown_keys("", tables, "", source)
    rows, host = tables.get("gpu", []), tables.get("host", {})
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return [*found, source.problem("gpu", "expected tables", "write [[gpu]]")]
    if not isinstance(host, dict):
        return [*found, source.problem("host", "expected a table", "write [host]")]
    if not rows and "ram_gib" not in host:
        hint = "give a [[gpu]], or ram_gib of [host] for a machine without one"
        found.append(source.problem("", "the machine file describes nothing", hint))
    for index, row in enumerate(rows):
        found += _gpu_problems(f"gpu[{index}]", row, source)
    found += _unknown_keys("host", host, "host", source)
    found += _number_problems(host, "host", ("ram_gib", "cpus"), source)
    if isinstance(host.get("cpus"), float):
        found.append(source.problem("host.cpus", "expected a whole number"))
    version = host.get("vllm_version", "0.0")
    if not isinstance(version, str) or not _VERSION.match(version):
        found.append(source.problem("host.vllm_version", 'expected a string such as "0.33.0"'))
    return found


def _gpu_problems(where: str, row: dict[str, Any], source: Source) -> list[Problem]:
    found = _unknown_keys("gpu", row, where, source)
    numbers = _number_problems(row, where, ("total_gib", "free_gib"), source)
    name = row.get("name")
    if not isinstance(name, str) or not name.strip():
        hint = 'for example: name = "NVIDIA L4"'
        found.append(source.problem(f"{where}.name", "expected the card's name", hint))
    elif "total_gib" not in row and find_card(name) is None:
        message = f'total_gib is missing, and no card "{name}" is in the catalogue'
        found.append(source.problem(f"{where}.total_gib", message, _suggestion(name)))
    total, free = row.get("total_gib"), row.get("free_gib")
    if total is not None and free is not None and not numbers and free > total:
        message = f"free_gib {free} is more than total_gib {total}"
        found.append(source.problem(f"{where}.free_gib", message))
    return found + numbers


def _number_problems(
    row: dict[str, Any], where: str, names: tuple[str, ...], source: Source
) -> list[Problem]:
    found = []
    for name in names:
        value = row.get(name, 1)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        # A petabyte: more than any machine, and it keeps infinity and NaN out.
        if not number or not 0 < value < 1 << 20:
            message = "expected a number above 0" + (", in GiB" if name.endswith("gib") else "")
            found.append(source.problem(f"{where}.{name}", message))
    return found


def _unknown_keys(table: str, row: dict[str, Any], where: str, source: Source) -> list[Problem]:
    found = []
    for key in row:
        if key not in _KEYS[table]:
            close = near(key, _KEYS[table])
            hint = f"did you mean `{close}`?" if close else f"known: {', '.join(_KEYS[table])}"
            place = f"{where}.{key}" if where else key
            found.append(source.problem(place, f"unknown key `{key}`", hint))
    return found


def _suggestion(name: str) -> str:
    nearest = nearest_cards(name)
    if nearest:
        return "nearest: " + ", ".join(nearest)
    return "known: " + ", ".join(card.name for card in cards())
