"""Shows what engines are doing while a command waits for them.

On a terminal one live block that is redrawn; elsewhere a line for each change, so that logs
stay readable. Talk goes to stderr.
"""

import sys
from types import TracebackType
from typing import Any, Self


class Progress:
    """Shows the models of a status document again and again."""

    def __init__(self) -> None:
        self._live: Any = None
        self._told: dict[str, str] = {}

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, status: dict[str, Any]) -> None:
        """Show *status* as it is now."""
        if self._live is not None:
            from rich.table import Table

            table = Table.grid(padding=(0, 2))
            for model in status["models"]:
                table.add_row(*words(model))
            self._live.update(table)
            return
        for model in status["models"]:
            name, state, _, why = words(model)
            told = f"{name}: {state}" + (f", {why}" if why else "")
            if self._told.get(name) != told:
                self._told[name] = told
                print(told, file=sys.stderr, flush=True)


def words(model: dict[str, Any]) -> tuple[str, str, str, str]:
    """Return name, state, time in it, and what it does or why, of one model's status."""
    since = duration(model["since_s"])
    last = model.get("last_start_s")
    if model["state"] == "Starting" and last:
        since += f", last time {duration(last)}"
    return model["name"], model["state"], since, model.get("reason") or ""


def duration(seconds: float) -> str:
    """Return *seconds* for people: `12 s`, `3 min 20 s`, `5 h 12 min`, `3 d 4 h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    for size, unit, lesser, lesser_unit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // lesser} {lesser_unit}"
    return f"{whole} s"
