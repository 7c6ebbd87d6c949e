"""Connections that speak TLS: large answers are encrypted piece by piece, and no peer is waited for when they close."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast

from tensorwire._net import Connection

try:
    from fcntl import ioctl
    from termios import TIOCOUTQ
except ImportError:  # Windows
    ioctl = None  # type: ignore[assignment]

__all__ = ["TlsConnection"]

_PIECE = 256 << 10  # bytes encrypted at a time; bench/NOTES.md has the measurements
_LITTLE = 4096  # bytes of a socket's queue, which is filled further than this as long as there is more
_LOOK = 0.05  # seconds between two looks at whether a connection can be closed
_GRACE = 1.0  # seconds that a peer has to say that it closes as well, once we have


class TlsConnection(Connection):
    """One accepted connection over TLS."""

    _wire: _Piecewise

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = _Piecewise(cast(asyncio.Transport, transport), super())
        super().connection_made(cast(asyncio.BaseTransport, self._wire))

    def connection_lost(self, error: Exception | None) -> None:
        self._wire.clear()
        super().connection_lost(error)

    def eof_received(self) -> bool:
        # Loops know no half-closed connections over TLS: what they are given after this they drop.
        self._wire.hand_in()
        super().eof_received()
        return False

    def pause_writing(self) -> None:
        self._wire.pause_writing()

    def resume_writing(self) -> None:
        self._wire.resume_writing()


class _Piecewise:
    """A transport that is given no more than it takes, and that knows how much of that is unsent.

    Loops encrypt all that they are given at once, hold all of it twice, and say nothing of what is encrypted but not
    sent. When they close they wait for the peer to say that it closes as well, for half a minute, and drop what is
    unsent then. So a connection is closed once nothing is unsent, and the peer is not waited for. ``protocol`` is told
    when to pause and resume.
    """

    __slots__ = ("_closing", "_paused", "_protocol", "_queue", "_sock", "_transport")

    def __init__(self, transport: asyncio.Transport, protocol: Any) -> None:
        self._transport = transport
        self._protocol = protocol
        self._sock = transport.get_extra_info("socket")
        self._queue: deque[memoryview] = deque()  # of pieces
        self._paused = False
        self._closing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: Any) -> None:
        if self._queue or len(data) > _PIECE:
            self.writelines((data,))
        else:
            self._transport.write(data)

    def writelines(self, buffers: Iterable[Any]) -> None:
        for buffer in buffers:
            view = memoryview(buffer)
            if not view.nbytes:
                continue
            view = view.cast("B")
            self._queue += [view[start : start + _PIECE] for start in range(0, len(view), _PIECE)]
        self._send()
        if self._queue:
            self._protocol.pause_writing()

    def _send(self) -> None:
        while self._queue and not self._paused:
            self._transport.write(self._queue.popleft())

    def hand_in(self) -> None:
        """Give the loop all that is left."""
        while self._queue:
            self._transport.write(self._queue.popleft())

    def pause_writing(self) -> None:
        self._paused = True
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._paused = False
        self._send()
        if self._paused or self._queue:
            return
        self._protocol.resume_writing()
        if self._closing:
            self._close_when_sent()

    def get_write_buffer_size(self) -> int:
        """Bytes that the peer has not taken; of those in the system's own queue nothing, while there are others."""
        size = sum(map(len, self._queue)) + self._transport.get_write_buffer_size()
        return size or self._in_socket()

    def _in_socket(self) -> int:
        if ioctl is not None:
            with suppress(OSError):  # closed
                return int(struct.unpack("i", ioctl(self._sock.fileno(), TIOCOUTQ, bytes(4)))[0])
        return 0

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        """Close when all is sent; nothing is read from now on."""
        if not self._closing:
            self._closing = True
            self._close_when_sent()

    def _close_when_sent(self) -> None:
        transport = self._transport
        if transport.is_closing():
            return
        if self.get_write_buffer_size() <= _LITTLE:
            transport.close()
            asyncio.get_running_loop().call_later(_GRACE, transport.abort)
            return
        transport.pause_reading()
        if not self._queue:  # or resume_writing will look again
            asyncio.get_running_loop().call_later(_LOOK, self._close_when_sent)

    def abort(self) -> None:
        self.clear()
        self._transport.abort()

    def clear(self) -> None:
        """Forget what is unsent."""
        self._queue.clear()
