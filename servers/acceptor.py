"""Accepts connections that speak TLS one by one, so that those which are still agreeing on it are known.

The loop's own servers say nothing of a connection before it speaks TLS, nor when that fails.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from socket import IPPROTO_TCP, TCP_NODELAY, socket
from typing import Generic, TypeVar

__all__ = ["TlsAcceptor"]

_P = TypeVar("_P", bound=asyncio.BaseProtocol)

_log = logging.getLogger("tensorwire.server")

_AT_ONCE = 64  # accepted before other sockets get their turn
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_PAUSE = 0.5  # seconds until the next attempt when descriptors are exhausted


class TlsAcceptor(Generic[_P]):
    """Accepts from ``listener``, which it owns, on the running loop until it is closed.

    For each connection: ``context`` gives the certificates, ``begin`` the protocol, or None to close it at once, and
    ``end`` is told when its handshake has ended, well or not. ``timeout`` is how many seconds that may take.
    """

    def __init__(
        self,
        listener: socket,
        context: Callable[[], ssl.SSLContext],
        begin: Callable[[], _P | None],
        end: Callable[[_P], None],
        timeout: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._context = context
        self._begin = begin
        self._end = end
        self._timeout = timeout
        self._handshakes: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        listener.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Accept no more; handshakes under way go on."""
        if self._pause is not None:
            self._pause.cancel()
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()

    def abort(self) -> None:
        """End the handshakes under way."""
        for handshake in self._handshakes:
            handshake.cancel()

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                _log.error("cannot accept a connection: %s; trying again", error.strerror)
                self._loop.remove_reader(self._listener)
                self._pause = self._loop.call_later(_PAUSE, self._resume)
                return
            protocol = self._begin()
            if protocol is None:
                sock.close()
                continue
            handshake = self._loop.create_task(self._agree(sock, protocol))
            self._handshakes.add(handshake)
            handshake.add_done_callback(self._handshakes.discard)

    async def _agree(self, sock: socket, protocol: _P) -> None:
        try:
            sock.setblocking(False)
            with suppress(OSError):  # the peer has gone
                sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
            # What fails here closes the socket; why is the client's business, or nobody's: a port scan is no news.
            with suppress(OSError):
                await self._loop.connect_accepted_socket(
                    lambda: protocol, sock, ssl=self._context(), ssl_handshake_timeout=self._timeout
                )
        finally:
            self._end(protocol)
