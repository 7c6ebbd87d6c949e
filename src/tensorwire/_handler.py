"""What a server gives its connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tensorwire._budget import Budget
    from tensorwire._frame import Frame
    from tensorwire._net import Connection
    from tensorwire._pending import Exchange

__all__ = ["Handler"]


class Handler(Protocol):
    """What a server gives its connections. All methods run on the event loop's thread and must not block."""

    max_body: int
    max_head: int
    head_timeout: float
    body_timeout: float
    min_rate: int
    idle_timeout: float
    budget: Budget

    def claims(self, method: bytes, path: bytes, content_type: bytes) -> bool:
        """True when a request with this head is a wire request; otherwise the connection is handed over."""

    def handle(self, exchange: Exchange) -> None:
        """A wire request's body is complete: call ``exchange.reply`` once, now or later, on this thread."""

    def refuse(self, exchange: Exchange, status: int, reason: str) -> Frame:
        """The answer to a request that is refused before its body is read (400, 408, 413, 431, 503)."""

    def hand_over(self, transport: asyncio.Transport, data: bytes) -> None:
        """Not a wire request: give the transport another protocol, and that protocol what was read so far."""

    def connected(self, connection: Connection) -> None:
        """A connection was accepted; one too many is told so with ``connection.turn_away``."""

    def disconnected(self, connection: Connection) -> None: ...

    def replied(self, exchange: Exchange, status: int, nbytes: int) -> None:
        """A reply was handed to the transport (for the access log, and what counts those that are not read)."""
