"""Connections over a UNIX socket: larger queues, and peers that say less about their end."""

from __future__ import annotations

import asyncio
import select

from tensorwire._address import tune
from tensorwire._net import Connection

__all__ = ["UnixConnection"]


class UnixConnection(Connection):
    """One over a UNIX socket, whose own send queue is too short for large answers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            tune(sock)
        self._sock = sock
        super().connection_made(transport)

    def eof_received(self) -> bool | None:
        # There are no resets. But who has closed can be told from who has only closed the sending side.
        ends = select.poll()
        ends.register(self._sock, 0)  # POLLHUP comes unasked
        if ends.poll(0):
            self.abort()
        return super().eof_received()
