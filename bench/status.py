"""The memory of a process, as the kernel counts it (/proc/PID/status), in bytes."""

from __future__ import annotations

from pathlib import Path

__all__ = ["peak", "reset_peak", "resident"]


def resident(pid: int | str = "self") -> int:
    """What it has in memory now. Counted in batches of pages: a few hundred kB may be noise."""
    return _field(pid, "VmRSS")


def peak(pid: int | str = "self") -> int:
    """The most it has had since it began or ``reset_peak`` was called."""
    return _field(pid, "VmHWM")


def reset_peak(pid: int | str = "self") -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _field(pid: int | str, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise LookupError(name)
