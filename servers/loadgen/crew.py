"""The processes that make a load together."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from selectors import EVENT_READ, DefaultSelector
from typing import Any

from tensorwire import ConnectionLost, Request, TensorwireError, encode
from tensorwire.servers.loadgen.plan import Plan, Progress
from tensorwire.servers.loadgen.tally import Tally

__all__ = ["CrewError", "generate"]


class CrewError(TensorwireError):
    """A process of the load generator has ended before its time."""


def generate(plan: Plan, request: Request, *, processes: int = 1, progress: Progress | None = None) -> Tally:
    """Send the request as the plan says, from as many processes, and count what comes of it.

    Raises ConnectionLost when the server cannot be reached, CrewError when a process dies. Whatever happens, no
    process is left behind.
    """
    parts = plan.split(processes)
    started: list[subprocess.Popen[bytes]] = []
    try:
        for _ in parts:
            started.append(_start())
        frame = encode(request)
        for process, part in zip(started, parts, strict=True):
            assert process.stdin is not None
            settings = {"plan": part.to_json(), "nbytes": frame.nbytes}
            process.stdin.write(json.dumps(settings).encode() + b"\n")
            for buffer in frame.buffers:
                process.stdin.write(buffer)
            process.stdin.flush()
        for process in started:
            said = _read(process)
            if "failed" in said:
                raise ConnectionLost(said["failed"])
        for process in started:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        return _collect(started, progress)
    except BrokenPipeError:
        raise CrewError("a process of the load generator has ended before its time") from None
    finally:
        for process in started:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    _close(stream)


def _start() -> subprocess.Popen[bytes]:
    # -P: a file called numpy.py in the user's folder is not numpy.
    command = [sys.executable, "-P", "-m", "tensorwire.servers.loadgen.worker"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _collect(processes: list[subprocess.Popen[bytes]], progress: Progress | None) -> Tally:
    """Read what the processes say until each has given its tally."""
    total = Tally()
    figures = {id(process): (0.0, 0, 0) for process in processes}
    with DefaultSelector() as selector:
        for process in processes:
            selector.register(process.stdout or -1, EVENT_READ, process)
        while selector.get_map():
            for key, _ in selector.select():
                said = _read(key.data)
                if "tally" in said:
                    total.merge(Tally.from_json(said["tally"]))
                    selector.unregister(key.fileobj)
                elif progress is not None:
                    figures[id(key.data)] = said["progress"]
                    elapsed, answered, failed = zip(*figures.values(), strict=True)
                    progress(max(elapsed), sum(answered), sum(failed))
    return total


def _read(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The next line of a process: they are written whole. Lines that the stream has read ahead are not seen by a
    selector, but the last of them is followed by the end of the stream, which is.
    """
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise CrewError(f"a process of the load generator has ended with exit code {process.wait()}")
    found: dict[str, Any] = json.loads(line)
    return found


def _close(stream: Any) -> None:
    with suppress(OSError):  # what was not written yet, to a process that has ended
        stream.close()
