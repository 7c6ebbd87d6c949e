"""One connection of an event loop, asyncio's or uvloop's, from when it is made until it is lost.

The loop receives straight into the exchange's target. On plain sockets requests are written by sendmsg from
where the tensors are, not through the transport: asyncio's joins buffers before Python 3.12, and uvloop's does
not tell how far it came. TLS has to go through the transport, which encrypts into memory of its own.
"""

from __future__ import annotations

import asyncio
import os
from socket import MSG_DONTWAIT, socket
from typing import TYPE_CHECKING, Final, cast

from tensorwire._answer import HeadBuffer
from tensorwire._exchange import Exchange

if TYPE_CHECKING:
    from tensorwire._limit import TimeLimit

__all__ = ["Stream"]

_IOV_MAX: Final = 1024  # Linux' and macOS' limit of buffers in one sendmsg
_PIECE: Final = 1 << 20  # bytes handed to a TLS transport at once


class Stream(asyncio.BufferedProtocol):
    """A connection that runs one exchange at a time.

    ``sock`` is the socket of the transport, for writing; None with TLS. ``lost`` is done when the loop is done
    with the connection.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket | None) -> None:
        self.lost = loop.create_future()
        self.closed = False
        self.buffer = HeadBuffer()
        self._loop = loop
        self._sock = sock
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None  # under way
        self._done: asyncio.Future[None] | None = None  # its end
        self._limit: TimeLimit | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._moved = 0.0  # when bytes last went either way, by the loop's clock
        self._writable: int | None = None  # a duplicate of the socket's descriptor, watched for room to write
        self._paused: asyncio.Future[None] | None = None  # the TLS transport's buffer is full

    async def run(self, exchange: Exchange, limit: TimeLimit) -> None:
        """Send the request and receive the answer. Raises OSError, DecodeError and LimitError."""
        done = self._done = self._loop.create_future()
        self._exchange, self._limit = exchange, limit
        self._moved = self._loop.time()
        self._watch()
        try:
            if self.closed:
                raise ConnectionError("closed by the server")
            if self._sock is None:
                await self._write_tls(exchange, done)
            else:
                self._write()
            await done
        finally:
            self._exchange = self._done = None
            self._stop_writing()
            if self._timer is not None:
                self._timer.cancel()
            del done  # It holds the error, whose traceback refers to this frame.

    @property
    def socket(self) -> socket | None:
        """The connection's, under TLS as well; None when it is lost."""
        return None if self._transport is None else self._transport.get_extra_info("socket")

    def close(self) -> None:
        """Close the connection at once."""
        self.closed = True
        self._stop_writing()
        if self._transport is not None:
            self._transport.abort()

    def _watch(self) -> None:
        """Fail the exchange when nothing has moved for too long, or its time is over; else look again later."""
        limit, self._timer = self._limit, None
        assert limit is not None
        if limit.stall is None and limit.ends is None:
            return
        try:
            quiet = None if limit.stall is None else self._moved + limit.stall - self._loop.time()
            if quiet is not None and quiet <= 0:
                raise TimeoutError
            delay = limit.step(quiet)
        except TimeoutError as error:
            self._end(error)
            return
        assert delay is not None
        self._timer = self._loop.call_later(delay, self._watch)

    def _end(self, error: Exception | None) -> None:
        """The exchange has its answer, or has failed."""
        done = self._done
        if done is None or done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def _write(self) -> None:
        """Send until nothing is pending or the socket is full; then once more when it has room."""
        exchange, sock = self._exchange, self._sock
        assert exchange is not None and sock is not None
        try:
            while exchange.pending:
                exchange.sent(sock.sendmsg(exchange.pending[:_IOV_MAX], (), MSG_DONTWAIT))
                self._moved = self._loop.time()
        except BlockingIOError:
            if self._writable is None:
                # The loop watches the socket itself for reading, and lets nobody else watch that descriptor.
                self._writable = os.dup(sock.fileno())
                self._loop.add_writer(self._writable, self._write)
            return
        except OSError:
            # The server may have answered before it stopped reading: the end of what it sent decides.
            exchange.keep = False
        self._stop_writing()

    def _stop_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None:
            self._loop.remove_writer(writable)
            os.close(writable)

    async def _write_tls(self, exchange: Exchange, done: asyncio.Future[None]) -> None:
        assert self._transport is not None
        while exchange.pending and not done.done():
            piece = memoryview(exchange.pending[0])[:_PIECE]
            self._transport.write(piece)
            exchange.sent(len(piece))
            await asyncio.sleep(0)  # The server may have answered: the loop has to read that before a write fails.
            if self._paused is not None:
                await asyncio.wait((self._paused, done), return_when=asyncio.FIRST_COMPLETED)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not of that class.

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._finish(error)
        self._stop_writing()
        self.resume_writing()
        self._transport = None
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        self._paused = self._loop.create_future()

    def resume_writing(self) -> None:
        self._moved = self._loop.time()
        paused, self._paused = self._paused, None
        if paused is not None and not paused.done():
            paused.set_result(None)

    def get_buffer(self, sizehint: int) -> memoryview | bytearray:
        exchange = self._exchange
        if exchange is None or exchange.answer is not None or self.closed:
            return self.buffer.room  # Bytes that nobody asked for.
        return exchange.target()

    def buffer_updated(self, nbytes: int) -> None:
        exchange = self._exchange
        if exchange is None or exchange.answer is not None or self.closed:
            self.close()  # They must not pass for an answer.
            return
        self._moved = self._loop.time()
        try:
            exchange.received(nbytes)
        except Exception as error:
            self._end(error)
            self.close()
            return
        if exchange.answer is not None:
            self._stop_writing()
            self._end(None)

    def eof_received(self) -> None:
        self.closed = True
        self._finish(None)

    def _finish(self, error: Exception | None) -> None:
        """The stream has ended."""
        exchange = self._exchange
        if exchange is None or exchange.answer is not None:
            return
        try:
            if error is None:
                exchange.ended()
            self._end(error)
        except ConnectionError as end:
            self._end(end)
