"""Child processes: Python modules of this folder that say with one line of JSON that they are ready."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]


def _start(module: str, arguments: tuple[str, ...]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)


def ask(module: str, *arguments: str) -> Any:
    """Run a module to its end; the value it prints."""
    process = _start(module, arguments)
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)}: exit code {process.returncode}")
    return json.loads(output)


@contextmanager
def running(module: str, *arguments: str) -> Iterator[Any]:
    """A module that runs in a process of its own until the block ends; the value it prints when ready."""
    process = _start(module, arguments)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{module} {' '.join(arguments)}: it did not start")
        yield json.loads(line)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
