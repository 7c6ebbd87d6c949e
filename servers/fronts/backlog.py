"""A bound on the answers that wait in memory for clients that do not read them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Protocol

from tensorwire.servers.model import RequestError

__all__ = ["Backlog"]

_AGAIN = 0.05  # seconds between two looks at whether clients have read, while there is too much


class _Unread(Protocol):
    @property
    def unread(self) -> int: ...


class Backlog:
    """``nbytes`` of answers wait, of all ``connections`` together; above ``limit`` requests are refused.

    What is added counts as waiting until the connections are asked, which is when it would be too much. So ``nbytes``
    may be more than waits while it is below the limit. Changed on the event loop's thread only.
    """

    def __init__(self, limit: int, connections: Collection[_Unread]) -> None:
        self.nbytes = 0
        self.limit = limit
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None

    def add(self, nbytes: int) -> None:
        """An answer of so many bytes has been handed to its connection."""
        self.nbytes += nbytes
        if self.nbytes > self.limit:
            self.recount()

    def recount(self) -> None:
        """Ask the connections, now and then again until there is less than the limit."""
        self.nbytes = sum([connection.unread for connection in self._connections])
        if self.nbytes > self.limit and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_AGAIN, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self.recount()

    def check(self) -> None:
        """Raises RequestError 503 while there is too much; from any thread."""
        if self.nbytes > self.limit:
            raise RequestError(
                503,
                f"busy: {self.nbytes:,} bytes of answers wait for clients to read them, the limit is {self.limit:,} "
                "(--memory-limit)",
            )
