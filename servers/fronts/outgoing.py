"""What a connection sends: over TLS a piece at a time; and a client that does not take it is noticed."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tensorwire._incoming import has_more
from tensorwire._pace import Pace
from tensorwire.servers.fronts.backlog import LARGE, Backlog
from tensorwire.servers.fronts.limits import Limits

__all__ = ["Outgoing", "in_pieces"]

_PIECE = 256 << 10  # bytes of an answer that are handed over, and so copied and encrypted, at a time
_LINGER = 5.0  # seconds in which what a client still sends is discarded
_MOST_DISCARDED = 1 << 20  # bytes


class Outgoing:
    """A transport that counts what is written to it, in ``backlog``, too, and so knows how much the client has taken.

    Under TLS the loop tells of less than what waits: what is encrypted and in the hands of the transport below is
    missing. That transport takes no more after the first write that does not fit, so the difference is a piece.
    """

    def __init__(self, transport: asyncio.Transport, limits: Limits, backlog: Backlog) -> None:
        self._transport = transport
        self._backlog = backlog
        self._patience = limits.body_timeout
        self._pace = Pace(limits.body_timeout, limits.min_rate)
        self._written = transport.get_write_buffer_size()
        self._taken: int | None = None
        self._taken_before = 0
        self._quiet_since = 0.0
        self._lingering = False
        self._discarded = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    @property
    def unread(self) -> int:
        """Bytes that the system does not take."""
        return self._transport.get_write_buffer_size()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._written += len(data)
        self._transport.write(data)
        if len(data) > LARGE:
            self._backlog.add(len(data))

    def is_closing(self) -> bool:
        return self._lingering or self._transport.is_closing()

    def close(self) -> None:
        """Close when all is taken, and what the client has sent beyond is discarded: closing over it would reset the
        connection, and the client might never see the answers.
        """
        if self.is_closing():
            return
        if not (self._transport.can_write_eof() and has_more(self._transport)):
            self._transport.close()
            return
        self._lingering = True
        self._transport.write_eof()
        self._transport.resume_reading()
        asyncio.get_running_loop().call_later(_LINGER, self._transport.close)

    def discard(self, nbytes: int) -> None:
        """So many bytes have come that nobody reads."""
        self._discarded += nbytes
        if self._lingering and self._discarded > _MOST_DISCARDED:
            self._transport.close()

    def stalled(self, now: float) -> bool:
        """A look at loop.time() ``now``: True when nothing, or too little, is taken of what was written."""
        left = self._transport.get_write_buffer_size()
        taken = self._written - left
        if not left or taken != self._taken:
            self._quiet_since = now
        self._taken = taken
        if not left:
            self._pace.begin()
            self._taken_before = taken
            return False
        return now - self._quiet_since > self._patience or self._pace.too_slow(now, taken - self._taken_before)


def in_pieces(app: ASGIApp) -> ASGIApp:
    """``app`` with its large bodies sent over TLS a piece (a view) at a time, each when there is room again."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["scheme"] != "https":  # nothing is copied
            await app(scope, receive, send)
            return

        async def send_pieces(message: Message) -> None:
            body = message.get("body", b"")
            if len(body) <= _PIECE:
                await send(message)
                return
            more = message.get("more_body", False)
            view = memoryview(body).cast("B")
            for start in range(0, len(view), _PIECE):
                end = start + _PIECE
                await send({**message, "body": view[start:end], "more_body": more or end < len(view)})

        await app(scope, receive, send_pieces)

    return run
