"""One decision of the supervisor: what was done, about which model, why, and with which figures.

The same entry is a line of JSON in events.jsonl, a line for people in the journal, and what
`[[on_event]]` hands to a command or a webhook.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gpuserve.units import GIB

Urgency = Literal["info", "warning", "error"]
Figures = Mapping[str, float | int | str]

# What can be chosen in `[[on_event]] events`, and what it tells.
NOTIFIABLE: Mapping[str, str] = {
    "failed": "a model is given up until the operator starts it",
    "crash_loop": "a model is given up because it has failed too often",
    "recovered": "a model is ready again after it had failed",
    "backing_off": "an engine has ended unasked and will be tried again",
    "unready": "an engine says that it is not healthy",
    "ready": "a model is ready",
    "unkillable": "an engine survives SIGKILL",
    "memory_drift": "an engine holds less cache or more memory than was planned",
    "gpu_lost": "the driver does not list a GPU any more, or does not answer",
    "gpu_back": "it does again",
    "gpu_error": "the kernel's log tells an error of a GPU (Xid)",
    "reload_refused": "a reload has changed nothing",
    "reloaded": "a new profile is in force",
    "rolled_back": "a changed model did not start and has its old settings again",
    "state_lost": "what the operator had stopped cannot be read or written",
    "upstream_lost": "a server elsewhere cannot be reached",
    "upstream_back": "it can again",
    "controller_started": "a controller begins, the first one or one that replaces another",
    "stopping": "the instance ends",
}
# What an `[[on_event]]` without `events` is told.
TOLD_BY_DEFAULT = (
    *("failed", "crash_loop", "recovered", "unkillable", "memory_drift"),
    *("gpu_lost", "gpu_back", "rolled_back", "state_lost"),
)
_ERRORS = frozenset(("failed", "crash_loop", "unkillable", "gpu_lost"))
_WARNINGS = frozenset(
    (
        *("backing_off", "unready", "memory_drift", "rolled_back", "reload_refused"),
        *("state_lost", "upstream_lost", "router_replaced", "strays_ended", "not_told"),
        "gpu_error",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """Why something is done: a word to count by, a sentence, and what was measured."""

    text: str | None = None
    cause: str | None = None
    figures: Figures = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One decision at `at_unix_s`. `before` and `after` are states where a model changed its own.

    `event` is a word of NOTIFIABLE, or the name of a lesser one. Units stand in the names of
    figures: `_s`, `_bytes`.
    """

    at_unix_s: float
    event: str
    model: str | None = None
    before: str | None = None
    after: str | None = None
    why: str | None = None
    cause: str | None = None
    figures: Figures = field(default_factory=dict)

    @property
    def urgency(self) -> Urgency:
        """How loudly it is said: journal priorities err, warning, info."""
        if self.event in _ERRORS:
            return "error"
        return "warning" if self.event in _WARNINGS else "info"

    @property
    def what(self) -> str:
        """What was done, for people: `Ready -> Stopping`, or the event in words."""
        words = self.event.replace("_", " ")
        if self.after is None:
            return words
        moved = f"{self.before} -> {self.after}" if self.before else self.after
        told = {_word(self.after), "adopted"}
        return moved if self.event in told else f"{moved}, {words}"

    def sentence(self) -> str:
        """Return what the journal gets: `coder: Ready -> Stopping (after 5.0 s): nothing moves`."""
        told = f"{self.model}: {self.what}" if self.model else self.what
        figures = in_words(self.figures)
        if figures:
            told += f" ({figures})"
        return f"{told}: {self.why}" if self.why else told


def entered(state: str) -> str:
    """Return the event that stands for entering *state*: `backing_off` for BackingOff."""
    return _word(state)


def line_of(entry: Entry, time: str) -> bytes:
    """Return *entry* as one line of JSON with its end; *time* is its moment in ISO 8601."""
    row: dict[str, Any] = {"time": time, "unix_s": round(entry.at_unix_s, 3), "event": entry.event}
    for key in ("model", "before", "after", "why", "cause"):
        value = getattr(entry, key)
        if value is not None:
            row[key] = value
    if entry.figures:
        row["figures"] = dict(entry.figures)
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def entry_of(line: bytes) -> Entry | None:
    """Return the entry that *line* holds, None for a line that is torn or not one of ours."""
    try:
        row = json.loads(line)
        texts = {key: row.get(key) for key in ("model", "before", "after", "why", "cause")}
        if any(not isinstance(text, str | None) for text in texts.values()):
            return None
        return Entry(
            at_unix_s=float(row["unix_s"]),
            event=str(row["event"]),
            figures=dict(row.get("figures", {})),
            **texts,
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def in_words(figures: Figures) -> str:
    """Return *figures* for people: `failures 3, next try 4.2 s, free 3.10 GiB`."""
    return ", ".join(_figure(name, value) for name, value in figures.items())


def _figure(name: str, value: float | str) -> str:
    if name.endswith("_bytes") and not isinstance(value, str):
        return f"{_plain(name.removesuffix('_bytes'))} {value / GIB:.2f} GiB"
    if name.endswith("_s") and not isinstance(value, str):
        return f"{_plain(name.removesuffix('_s'))} {value:.1f} s"
    return f"{_plain(name)} {value}"


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _word(state: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", state).lower()
