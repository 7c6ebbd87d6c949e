"""What goes over the sockets between a server and a model's process: notes of where messages lie, not the messages.

Calls go over SOCK_SEQPACKET pairs, one for each call at a time; a packet is a head, numbers of blocks, and at most one
descriptor. What is said once, at the start, goes over a stream as parts that each have their length before them.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["FAILED", "KEPT", "MOST_NUMBERS", "Packet", "receive", "receive_parts", "send", "send_parts"]

KEPT = 1
"""The model still refers to the inputs: their block is not to be written to again."""
FAILED = 2
"""The message is not an answer: its error is what the model raised."""

MOST_NUMBERS = 1000
"""Numbers of blocks in a packet; more have to wait for the next one."""

_HEAD = struct.Struct("<QQIHH")  # bytes of the message, bytes of its block, the block, flags, numbers that follow
_LARGEST = _HEAD.size + 4 * MOST_NUMBERS
_ROOM = socket.CMSG_SPACE(4)
_COUNT = struct.Struct("<I")
_MOST_PARTS, _LONGEST_PART = 10_000, 64 << 20


class Packet(NamedTuple):
    """A message of ``nbytes`` lies at the start of block ``number``, which has ``size`` bytes.

    ``numbers``: blocks of the receiver's that the sender needs no longer, or of its own that it has given up. ``fd``:
    the block itself when it is new, else -1.
    """

    nbytes: int
    size: int
    number: int
    flags: int
    numbers: Sequence[int]
    fd: int


def send(sock: socket.socket, packet: Packet) -> None:
    """Send a packet; its descriptor stays open here. Raises OSError."""
    nbytes, size, number, flags, numbers, fd = packet
    data = _HEAD.pack(nbytes, size, number, flags, len(numbers))
    if numbers:
        data += struct.pack(f"<{len(numbers)}I", *numbers)
    if fd < 0:
        sock.send(data)
    else:
        socket.send_fds(sock, [data], [fd])


def receive(sock: socket.socket) -> Packet | None:
    """The next packet, whose descriptor is the receiver's to close; None at the end.

    Raises ValueError for a packet that is none, OSError.
    """
    data, ancillary, flags, _ = sock.recvmsg(_LARGEST, _ROOM, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    try:
        if not data:
            return None
        if len(data) < _HEAD.size or len(fds) > 1 or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ValueError(f"a packet of {len(data)} bytes and {len(fds)} descriptors came")
        nbytes, size, number, bits, count = _HEAD.unpack_from(data)
        if len(data) != _HEAD.size + 4 * count:
            raise ValueError(f"a packet of {len(data)} bytes tells of {count} blocks")
        numbers = struct.unpack_from(f"<{count}I", data, _HEAD.size) if count else ()
        fd = fds.pop() if fds else -1
        return Packet(nbytes, size, number, bits, numbers, fd)
    finally:
        for fd in fds:
            os.close(fd)


def send_parts(sock: socket.socket, parts: Sequence[bytes]) -> None:
    """Say something on a stream. Raises OSError."""
    sock.sendall(b"".join([_COUNT.pack(len(parts)), *(_COUNT.pack(len(part)) + part for part in parts)]))


def receive_parts(sock: socket.socket) -> list[bytes]:
    """What was said on a stream. Raises EOFError at its end, ValueError when it is too much, OSError."""
    (count,) = _COUNT.unpack(_exactly(sock, _COUNT.size))
    if count > _MOST_PARTS:
        raise ValueError(f"{count} parts")
    parts = []
    for _ in range(count):
        (nbytes,) = _COUNT.unpack(_exactly(sock, _COUNT.size))
        if nbytes > _LONGEST_PART:
            raise ValueError(f"a part of {nbytes} bytes")
        parts.append(_exactly(sock, nbytes))
    return parts


def _exactly(sock: socket.socket, nbytes: int) -> bytes:
    found = bytearray()
    while len(found) < nbytes:
        piece = sock.recv(min(nbytes - len(found), 1 << 20))
        if not piece:
            raise EOFError
        found += piece
    return bytes(found)
