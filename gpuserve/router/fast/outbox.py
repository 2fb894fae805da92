"""Writes requests and whole answers together that come in one turn of the event loop.

A write to a socket wakes whoever waits for it, which costs more than anything else that is done
for a message. Of those that are written one behind the other, most find their reader awake. Whether
more will come in this turn cannot be known, but where the last came a moment ago it is likely; any
other is written at once. Tokens always are: they are waited for.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter

from gpuserve.router.counts import Buckets

# Longer than what is done for a message takes, shorter than an engine's answer.
_SOON_S = 30e-6


class Outbox:
    """Takes messages, and writes them in this turn of the event loop.

    *call_soon* is the loop's; *added_s* gets how long each request was in the router. Who writes
    to a client, or closes its connection, in another way calls `flush` before.
    """

    __slots__ = ("_added_s", "_answers", "_call_soon", "_due", "_last", "_requests")

    def __init__(self, call_soon: Callable[[Callable[[], None]], object], added_s: Buckets) -> None:
        self._call_soon = call_soon
        self._added_s = added_s
        self._requests: list[tuple[asyncio.Transport, bytes, float]] = []
        self._answers: list[tuple[asyncio.Transport, bytes]] = []
        self._due = False
        self._last = 0.0

    def put_request(self, transport: asyncio.Transport, message: bytes, began: float) -> None:
        """Send *message* to an engine, for a client who was read at *began* (perf_counter)."""
        if began - self._last < _SOON_S:
            if not self._due:
                self._due = True
                self._call_soon(self.flush)
            self._requests.append((transport, message, began))
            self._last = began
        else:
            transport.write(message)
            self._last = now = perf_counter()
            self._added_s.observe(now - began)

    def put_answer(self, transport: asyncio.Transport, message: bytes, now: float) -> None:
        """Send *message* to a client."""
        if now - self._last < _SOON_S:
            if not self._due:
                self._due = True
                self._call_soon(self.flush)
            self._answers.append((transport, message))
        else:
            transport.write(message)
        self._last = now

    def flush(self) -> None:
        """Write what was put in until now, but for what is closed."""
        if not self._due:
            return
        self._due = False
        answers, requests = self._answers, self._requests
        if answers:
            self._answers = []
            for transport, message in answers:
                if not transport.is_closing():
                    transport.write(message)
        if requests:
            self._requests = []
            for transport, message, _ in requests:
                if not transport.is_closing():
                    transport.write(message)
        self._last = now = perf_counter()
        for _, _, began in requests:
            self._added_s.observe(now - began)
