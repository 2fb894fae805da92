"""Lends a client's connection to aiohttp, and takes it back when aiohttp has answered."""

import asyncio
from collections.abc import Iterable
from typing import Any

from aiohttp import web


class Lent(asyncio.Transport):
    """The transport as aiohttp sees it. Once taken back, nothing that aiohttp does reaches it."""

    __slots__ = ("_transport", "written")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport: asyncio.Transport | None = transport
        self.written = False  # an answer has begun

    def take_back(self) -> None:
        """Cut the borrower off."""
        self._transport = None

    def write(self, data: Any) -> None:
        """Send on."""
        if self._transport is not None:
            self.written = True
            self._transport.write(data)

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Send on, one after the other."""
        if self._transport is not None:
            self.written = True
            self._transport.writelines(list_of_data)

    def close(self) -> None:
        """Close once everything is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def is_closing(self) -> bool:
        """Whether it closes, or was taken back."""
        return self._transport is None or self._transport.is_closing()

    def pause_reading(self) -> None:
        """Read no more."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._transport is not None:
            self._transport.resume_reading()

    def is_reading(self) -> bool:
        """Whether the client is read."""
        return self._transport is not None and self._transport.is_reading()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return where writing pauses, low and high."""
        if self._transport is None:
            return 0, 0
        return self._transport.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set where writing pauses."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known about the socket."""
        if self._transport is None:
            return default
        return self._transport.get_extra_info(name, default)


def is_idle(handler: web.RequestHandler) -> bool:
    """Whether *handler* has answered everything that it was given, and waits for more.

    aiohttp (3.14) has no public word for it. If these names go, the answer is no, and
    connections stay where they are: slower, and right.
    """
    waiter = getattr(handler, "_waiter", None)
    messages = getattr(handler, "_messages", None)
    return waiter is not None and not waiter.done() and messages is not None and not messages
