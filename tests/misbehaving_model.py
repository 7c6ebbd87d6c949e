"""A model that does what its input says, crashes included; for processes that are there to be lost."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tensorwire.servers.engines.function import FunctionModel
from tensorwire.servers.model import Model, RequestError

KEPT: list[Any] = []


def _where(x: Any) -> str:
    """What is mapped at the array's address."""
    address = x.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < end:
            return line.partition("/")[2]
    return ""


def _wait(inputs: dict[str, Any]) -> Any:
    """Say that it has begun, by a file, and wait for another one."""
    folder = Path(bytes(inputs["folder"].item()).decode())
    (folder / f"begun-{bytes(inputs['name'].item()).decode()}").touch()
    while not (folder / "go").exists():
        time.sleep(0.005)
    return {"y": np.ones(1)}


def _keep(inputs: dict[str, Any]) -> Any:
    KEPT.append(inputs["x"])
    return {"y": inputs["x"]}


def _hold_the_lock(inputs: dict[str, Any]) -> Any:
    """No other Python thread of the process runs meanwhile."""
    ctypes.PyDLL(None).sleep(600)


def _raise(inputs: dict[str, Any]) -> Any:
    raise ValueError("bad\nvalue")


def _refuse(inputs: dict[str, Any]) -> Any:
    raise RequestError(422, "no digits in it")


def _leave(inputs: dict[str, Any]) -> Any:
    raise SystemExit("bye")


def _print(inputs: dict[str, Any]) -> Any:
    print("said on stdout")
    print("said on stderr", file=sys.stderr)
    print("x" * 10_000)
    return {"y": np.ones(1)}


ACTS: dict[str, Any] = {
    "same": lambda inputs: {name: value for name, value in inputs.items() if name != "do"},
    "pid": lambda inputs: {"y": np.array(os.getpid())},
    "where": lambda inputs: {"y": np.array([_where(inputs["x"]).encode()], object), "x": inputs["x"]},
    "flags": lambda inputs: {"y": np.array([inputs["x"].flags.writeable, inputs["x"].flags.aligned])},
    "big": lambda inputs: {"y": np.arange(int(inputs["n"].item()), dtype=np.float64)},
    "wait": _wait,
    "keep": _keep,
    "kept": lambda inputs: {str(i): x for i, x in enumerate(KEPT)},
    "exit": lambda inputs: os._exit(7),
    "segv": lambda inputs: ctypes.string_at(8),
    "kill": lambda inputs: os.kill(os.getpid(), signal.SIGKILL),
    "close": lambda inputs: os.closerange(3, 4096),
    "hang": lambda inputs: time.sleep(600),
    "lock": _hold_the_lock,
    "raise": _raise,
    "refuse": _refuse,
    "leave": _leave,
    "print": _print,
    "hog": lambda inputs: {"y": np.ones(1 << 31)},
    "none": lambda inputs: None,
    "fork": lambda inputs: {"y": np.array(os.fork() or (time.sleep(600), os._exit(0)))},
}


def act(inputs):  # type: ignore[no-untyped-def]
    """Does what ``do`` says."""
    return ACTS[bytes(inputs["do"].item()).decode()](inputs)


class Closing:
    """Tells when it is closed."""

    def predict(self, inputs):  # type: ignore[no-untyped-def]
        return inputs

    def close(self) -> None:
        print("closed in good order")


def flaky(folder: Path) -> Model:
    """Ends its process or raises while it is loaded, or is another model, when there is a file that says so."""
    if (folder / "die").exists():
        os._exit(9)
    if (folder / "raise").exists():
        raise ValueError("not today")
    return FunctionModel(act, name="flaky", concurrency=3 if (folder / "other").exists() else 1)
