"""Child processes: Python modules of this folder that say with one line of JSON that they are ready."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

ROOT = Path(__file__).parents[1]

_REASON = 60  # characters


class ChildFailed(RuntimeError):
    """A process ended before it was ready or in the middle of its work; the text is the last line it wrote.

    ``reason`` is what fits a table's cell: no folders, no name of the exception, and not much of it.
    """

    @property
    def reason(self) -> str:
        text = re.sub(r"^[\w.]+: ", "", self.args[1])
        text = re.sub(r"(?<!\w)/\S*/", "", text)
        return text if len(text) <= _REASON else f"{text[: _REASON - 3]}..."

    def __str__(self) -> str:
        return ": ".join(self.args)


class Child:
    """A process with a pipe each way. ``ready``: what it printed first, as JSON; None when nobody waited for it."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[bytes], name: str) -> None:
        self._process = process
        self._errors = errors
        self._name = name
        self.pid = process.pid
        self.ready: Any = None

    def ask(self, line: str = "") -> Any:
        """Write a line unless it is empty, and wait for the next one; raises ChildFailed when there is none."""
        assert self._process.stdin is not None and self._process.stdout is not None
        if line:
            with suppress(BrokenPipeError):
                print(line, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            self._process.wait()
            raise self.failed()
        return json.loads(answer)

    def failed(self) -> ChildFailed:
        """Why it ended, by its last words."""
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        return ChildFailed(self._name, lines[-1].strip() if lines else "it ended without a word")

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        """SIGTERM, then SIGKILL to what is left of its process group (servers have workers of their own)."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


@contextmanager
def started(command: Sequence[str], *, wait: bool = True, log: Path | None = None) -> Iterator[Child]:
    """A command in a process group of its own until the block ends; ``wait`` for its first line.

    ``log``: where its standard error goes (None: a file that is gone at the end).
    """
    with log.open("w+b") if log else TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if wait else subprocess.DEVNULL,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        child = Child(process, errors, " ".join(Path(word).name for word in command[:4]))
        try:
            if wait:
                child.ready = child.ask()
            yield child
        finally:
            child.stop()


@contextmanager
def child(module: str, *arguments: str, python: str = sys.executable) -> Iterator[Child]:
    """A module of this folder, in a process of its own until the block ends; ready when it comes."""
    with started([python, "-m", module, *arguments]) as found:
        yield found


@contextmanager
def running(module: str, *arguments: str) -> Iterator[Any]:
    """The same, when only what it prints when ready is of interest."""
    with child(module, *arguments) as found:
        yield found.ready


def ask(module: str, *arguments: str) -> Any:
    """Run a module to its end; the value it prints."""
    with child(module, *arguments) as found:
        return found.ready


def raise_descriptor_limit() -> None:
    """As many descriptors for this process as the system lets it have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
