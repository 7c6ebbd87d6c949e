"""The memory that processes have, and giving back what an allocator keeps of it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

__all__ = ["resident", "size_text", "trim_heap"]


def resident(pid: int | str = "self") -> int:
    """Bytes of a process that are in memory; 0 for one that has ended, and where the system does not say (not Linux).

    https://man7.org/linux/man-pages/man5/proc_pid_statm.5.html
    """
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def trim_heap() -> None:
    """Give the system back what malloc keeps for later, where that is glibc's.

    It looks through every arena, some ms for large ones, in which other threads wait when they allocate.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def size_text(nbytes: int) -> str:
    """Bytes for people: '77.1 MB'."""
    value, unit = float(nbytes), "bytes"
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{nbytes:,} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
