"""Servers as processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from rawhttp import Raw

__all__ = ["Start", "first_line", "refuses", "start_processes"]

Start = Callable[..., subprocess.Popen[str]]


def start_processes(folder: Path) -> Iterator[Start]:
    """Starts Python with arguments, in a folder; what still runs at the end is killed."""
    processes: list[subprocess.Popen[str]] = []

    def start(*args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *args],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise AssertionError(process.communicate()[1])
    return line.rstrip("\n")


def refuses(url: str) -> bool:
    try:
        Raw(url).sock.close()
    except OSError:
        return True
    return False
