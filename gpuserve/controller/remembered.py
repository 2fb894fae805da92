"""What outlives a controller: what the operator stopped, what has Failed, how long starts took.

One JSON file, replaced atomically. One that cannot be read counts as empty, is put aside and said;
so is one that cannot be written (a full disk), and the service goes on.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from gpuserve.machine.files import replace_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What is kept of one engine. `failed` is the reason of a Failed state, else None.

    `stopped` and `last_start_s` hold beyond the instance, the others only within it.
    """

    stopped: bool = False
    held: bool = False  # drained by the operator, and to stay so
    restarting: bool = False  # asked for by the operator, not yet begun
    failures: int = 0
    failed: str | None = None
    starts: int = 0
    restarts: int = 0  # starts that followed a failure
    last_start_s: float | None = None
    ends_unix_s: tuple[float, ...] = ()  # when it ended unasked, in the last hour
    troubled: bool = False  # it has failed and was not ready since


class Memory:
    """The file, and its contents by engine. *instance* tells one run of the keeper from another."""

    def __init__(self, path: Path, instance: str) -> None:
        self._path = path
        self._instance = instance
        self._engines: dict[str, Remembered] = {}
        self.fault: str | None = None
        self.lost: str | None = None  # why what was written before is not known any more
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            self._lose(str(error))
            return
        try:
            found = json.loads(text)
            rows = {str(name): _row(row) for name, row in found["engines"].items()}
            same = found["instance"] == instance
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self._lose(f"it holds no state ({type(error).__name__})")
            return
        if not same:
            rows = {name: _beyond_the_instance(row) for name, row in rows.items()}
        self._engines = rows

    def _lose(self, why: str) -> None:
        aside = self._path.with_name(self._path.name + ".damaged")
        self.lost = f"cannot read {self._path}: {why}; what the operator had stopped is not known"
        with suppress(OSError):
            self._path.replace(aside)
            self.lost += f" (kept as {aside.name})"

    def of(self, name: str) -> Remembered:
        """Return what is remembered of an engine."""
        return self._engines.get(name, Remembered())

    def change(self, name: str, **fields: Any) -> None:
        """Replace *fields* of an engine's record and write the file if anything changed."""
        before = self.of(name)
        after = replace(before, **fields)
        if after != before:
            self._engines[name] = after
            self._write()

    def forget(self, name: str) -> None:
        """Drop an engine's record."""
        if self._engines.pop(name, None) is not None:
            self._write()

    def _write(self) -> None:
        rows = {name: asdict(row) for name, row in self._engines.items()}
        content = json.dumps({"instance": self._instance, "engines": rows}, indent=1)
        try:
            # To the disk: a box that loses its power must not start what was stopped.
            replace_file(self._path, content.encode(), to_disk=True)
            self.fault = None
        except OSError as error:
            self.fault = f"cannot write {self._path}: {error.strerror}"


def _row(found: dict[str, Any]) -> Remembered:
    """Return a record; keys of another release are passed over. Raises TypeError, KeyError."""
    known = {f.name: found[f.name] for f in fields(Remembered) if f.name in found}
    known["ends_unix_s"] = tuple(float(at_s) for at_s in known.get("ends_unix_s", ()))
    for key in ("stopped", "held", "restarting"):
        if not isinstance(known.get(key, False), bool):
            raise TypeError(key)
    return Remembered(**known)


def _beyond_the_instance(row: Remembered) -> Remembered:
    return Remembered(stopped=row.stopped, last_start_s=row.last_start_s)
