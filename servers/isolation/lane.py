"""The server's side of one call at a time: a socket, a block for requests, and the blocks that answers came in."""

from __future__ import annotations

import os
import select
import socket
import weakref
from collections import deque
from contextlib import suppress
from functools import partial

import numpy as np

from tensorwire._decode import decode
from tensorwire._frame import Frame
from tensorwire._memory import Chunk
from tensorwire._messages import Response
from tensorwire.errors import DecodeError
from tensorwire.servers.isolation.memory import SMALLEST, Block, attach, create
from tensorwire.servers.isolation.packets import KEPT, MOST_NUMBERS, Packet, receive, send

__all__ = ["Breach", "Lane"]

_MOST_LENT = 32  # answers read in place at a time: each holds a descriptor (Python's mmap keeps one); more are copied
_MOST_BLOCKS = 2 * _MOST_LENT


class Breach(Exception):
    """The model's process has said something that it must not say."""


class Lane:
    """Calls over a connected SOCK_SEQPACKET socket. ``kept``: bytes of the largest request block that is used again.

    ``reused`` counts answers that came in a block that had come before.
    """

    def __init__(self, sock: socket.socket, kept: int) -> None:
        self._sock = sock
        self._kept = kept
        self._block: Block | None = None
        self._made = 0
        self._answers: dict[int, Block] = {}
        # Filled on whatever thread drops the last view of an answer; dict.pop and deque.append are atomic.
        self._lent: dict[int, weakref.ref[object]] = {}
        self._free: deque[int] = deque()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self.reused = 0

    def call(self, frame: Frame, timeout: float | None) -> tuple[Response, int]:
        """Copy a request into shared memory, wait for the answer; its arrays are read-only views of shared memory,
        whose block is used again once the last of them is gone. Answers of at most 64 KiB, and those beyond 32 that are
        still in use, are copied. Also returns the packet's flags.

        Raises TimeoutError after ``timeout`` seconds (None: never), EOFError or OSError when the process has ended,
        Breach; after any of these the lane is of no more use. Raises MemoryError when there is no shared memory for the
        request; the lane may be used again then.
        """
        self._ask(frame)
        if timeout is not None and not self._poll.poll(max(timeout, 0.0) * 1e3):
            raise TimeoutError
        try:
            packet = receive(self._sock)
            if packet is None:
                raise EOFError
            return self._answer(packet), packet.flags
        except (ValueError, DecodeError) as error:
            raise Breach(str(error)) from None

    def shut(self) -> None:
        """End a call that waits, by EOFError; from any thread."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._sock.close()

    def _ask(self, frame: Frame) -> None:
        block, fd = self._block, -1
        if block is None or block.size < frame.nbytes:
            self._made += 1
            try:
                block, fd = create(self._made, frame.nbytes)
            except (OSError, ValueError) as error:
                raise MemoryError(f"no shared memory for a request of {frame.nbytes:,} bytes: {error}") from None
        try:
            frame.write_into(block.map)
            free = self._free
            numbers = [free.popleft() for _ in range(min(len(free), MOST_NUMBERS))] if free else ()
            send(self._sock, Packet(frame.nbytes, block.size, block.number, 0, numbers, fd))
        finally:
            if fd >= 0:
                os.close(fd)
        self._block = block if block.size <= self._kept else None

    def _answer(self, packet: Packet) -> Response:
        nbytes, size, number, flags, dropped, fd = packet
        for gone in dropped:
            self._answers.pop(gone, None)
        if fd >= 0:
            self._answers[number] = block = attach(number, size, fd, writable=False)
            if len(self._answers) > _MOST_BLOCKS:
                raise ValueError(f"more than {_MOST_BLOCKS} blocks came")
        elif number in self._answers:
            block = self._answers[number]
            self.reused += 1
        else:
            raise ValueError(f"the answer is in block {number}, which never came")
        if number in self._lent:
            raise ValueError(f"the answer is in block {number}, which is still read")
        if nbytes > block.size:
            raise ValueError(f"the answer has {nbytes} bytes, its block {block.size}")
        if flags & KEPT:
            self._block = None
        if nbytes <= SMALLEST:
            self._free.append(number)
            return decode(block.map[:nbytes], Response)
        if len(self._lent) >= _MOST_LENT:
            chunk = Chunk(nbytes)
            memoryview(chunk)[:] = memoryview(block.map)[:nbytes]
            self._free.append(number)
            return decode(chunk, Response)
        # The arrays refer to this one, which refers to the mapping.
        owner = np.frombuffer(block.map, np.uint8, nbytes)
        self._lent[number] = weakref.ref(owner, partial(_given_back, self._lent, self._free, number))
        return decode(owner, Response)


def _given_back(lent: dict[int, weakref.ref[object]], free: deque[int], number: int, _: object) -> None:
    lent.pop(number, None)
    free.append(number)
