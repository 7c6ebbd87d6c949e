"""Blocks of memory that two processes share: sealed memfds, mapped by both.

A memfd's size is sealed, so that neither side can make it shorter under the other, which would end that one by SIGBUS:
https://man7.org/linux/man-pages/man2/memfd_create.2.html
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os

__all__ = ["SMALLEST", "Block", "attach", "create"]

SMALLEST = 1 << 16  # bytes of a block

_FIXED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class Block:
    """``size`` bytes at ``map``; ``number`` is its name between the two processes."""

    __slots__ = ("map", "number", "size")

    def __init__(self, number: int, size: int, mapped: mmap.mmap) -> None:
        self.number = number
        self.size = size
        self.map = mapped


def create(number: int, nbytes: int) -> tuple[Block, int]:
    """A fresh block for at least so many bytes, and a descriptor of it, to be sent and closed. Raises OSError."""
    size = _rounded(nbytes)
    fd = os.memfd_create("tensorwire", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _FIXED | fcntl.F_SEAL_SEAL)
        return Block(number, size, _map(fd, size, True)), fd
    except BaseException:
        os.close(fd)
        raise


def attach(number: int, size: int, fd: int, *, writable: bool) -> Block:
    """Map a block that came from the other process; takes over the descriptor.

    Raises ValueError when it has not the size that was told, or could get another; OSError.
    """
    try:
        if os.fstat(fd).st_size != size or not size:
            raise ValueError(f"a block of {os.fstat(fd).st_size} bytes came, {size} were told")
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _FIXED != _FIXED:
            raise ValueError("a block came whose size is not sealed")
        return Block(number, size, _map(fd, size, writable))
    finally:
        os.close(fd)


def _map(fd: int, size: int, writable: bool) -> mmap.mmap:
    mapped = mmap.mmap(fd, size, prot=mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0))
    with contextlib.suppress(OSError):  # systems that have no huge pages for shared memory
        mapped.madvise(mmap.MADV_HUGEPAGE)
    return mapped


def _rounded(nbytes: int) -> int:
    """With room for a message that is a little larger: messages of one model are often nearly of one size."""
    step = max(1 << max(nbytes.bit_length() - 4, 0), SMALLEST)
    return max((nbytes + step - 1) // step * step, SMALLEST)
