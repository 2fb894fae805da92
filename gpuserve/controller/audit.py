"""Writes each decision down: to events.jsonl, to the journal, to whoever wants to be told."""

import time
from collections.abc import Callable

from gpuserve.lifecycle.audit import Entry, Why, line_of
from gpuserve.machine.auditlog import AuditLog, iso
from gpuserve.machine.voice import Voice

Listener = Callable[[Entry], None]


class Audit:
    """The one place where decisions are recorded. Nothing here blocks or raises."""

    def __init__(self, log: AuditLog, voice: Voice) -> None:
        self._log = log
        self._voice = voice
        self._listeners: list[Listener] = []
        self._dropped = 0

    @property
    def fault(self) -> str | None:
        """Why decisions are not on the disk now, None if they are."""
        return self._log.fault

    def listen(self, listener: Listener) -> None:
        """Have *listener* called with each entry."""
        self._listeners.append(listener)

    def say(self, line: str) -> None:
        """Tell the operator what is no decision: progress."""
        self._voice.say(line)

    def record(
        self,
        event: str,
        why: Why = Why(),  # noqa: B008 - frozen
        *,
        model: str | None = None,
        before: str | None = None,
        after: str | None = None,
    ) -> None:
        """Record one decision, made now."""
        entry = Entry(
            at_unix_s=time.time(),
            event=event,
            model=model,
            before=before,
            after=after,
            why=why.text,
            cause=why.cause,
            figures=why.figures,
        )
        self._voice.say(entry.sentence(), entry.urgency)
        self._log.append(line_of(entry, iso(entry.at_unix_s)))
        for listener in self._listeners:
            listener(entry)

    def flush(self) -> None:
        """Write what waits for room on the disk, and how much of it was lost."""
        if self._log.fault is None:
            return
        self._log.flush()
        if self._log.fault is None and self._log.dropped > self._dropped:
            lost, self._dropped = self._log.dropped - self._dropped, self._log.dropped
            why = Why(text="the disk was full for too long", figures={"events": lost})
            self.record("events_lost", why)
