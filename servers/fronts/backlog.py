"""A bound on the answers that wait in memory for clients that do not read them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Protocol

from tensorwire.servers.model import RequestError

__all__ = ["LARGE", "Backlog"]

LARGE = 64 << 10
"""Bytes of an answer that may not fit the system's own queue: smaller ones need not be added."""

_AGAIN = 0.05  # seconds between two looks at whether clients have read, while there is too much


class _Unread(Protocol):
    @property
    def unread(self) -> int: ...


class Backlog:
    """``nbytes`` of answers wait, of all connections together; above ``limit`` requests are refused.

    What is added counts as waiting until the connections are asked, which is when it would be too much. So ``nbytes``
    may be more than waits while it is below the limit. Changed on the event loop's thread only.
    """

    def __init__(self, limit: int) -> None:
        self.nbytes = 0
        self.limit = limit
        self._groups: list[Collection[_Unread]] = []
        self._held = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, connections: Collection[_Unread]) -> None:
        """Ask these connections, too, whichever they are then."""
        self._groups.append(connections)

    def add(self, nbytes: int) -> None:
        """An answer of so many bytes has been handed to its connection."""
        self.nbytes += nbytes
        if self.nbytes > self.limit:
            self.recount()

    def hold(self, nbytes: int) -> None:
        """So many bytes of an answer wait until their connection takes them; to be released then."""
        self._held += nbytes
        self.add(nbytes)

    def release(self, nbytes: int) -> None:
        """The connection has them, or has gone."""
        self._held -= nbytes

    def recount(self) -> None:
        """Ask the connections, now and then again until there is less than the limit."""
        self.nbytes = self._held + sum([connection.unread for group in self._groups for connection in group])
        if self.nbytes > self.limit and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_AGAIN, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self.recount()

    def admit(self) -> None:
        """Raises RequestError 503 if there is too much now."""
        if self.nbytes > self.limit:
            self.recount()
            self.check()

    def check(self) -> None:
        """Raises RequestError 503 while there is too much; from any thread."""
        if self.nbytes > self.limit:
            raise RequestError(
                503,
                f"busy: {self.nbytes:,} bytes of answers wait for clients to read them, the limit is {self.limit:,} "
                "(--memory-limit)",
            )
