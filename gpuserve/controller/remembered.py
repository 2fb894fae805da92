"""What outlives a controller: what the operator stopped, what has Failed, how long starts took.

One JSON file, replaced atomically. A file that cannot be read counts as empty; one that cannot
be written (a full disk) is reported once and the service goes on.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any


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
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            found = json.loads(path.read_text(encoding="utf-8"))
            rows = {name: _row(row) for name, row in found["engines"].items()}
            if found["instance"] != instance:
                rows = {name: _beyond_the_instance(row) for name, row in rows.items()}
            self._engines = rows

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
        draft = self._path.with_name(self._path.name + ".new")
        rows = {name: asdict(row) for name, row in self._engines.items()}
        content = {"instance": self._instance, "engines": rows}
        try:
            draft.write_text(json.dumps(content, indent=1), encoding="utf-8")
            draft.replace(self._path)
            self.fault = None
        except OSError as error:
            self.fault = f"cannot write {self._path}: {error.strerror}"


def _row(found: dict[str, Any]) -> Remembered:
    return Remembered(**{**found, "ends_unix_s": tuple(found.get("ends_unix_s", ()))})


def _beyond_the_instance(row: Remembered) -> Remembered:
    return Remembered(stopped=row.stopped, last_start_s=row.last_start_s)
