"""From the command line to ready: how long it takes, and which frameworks are imported on the way."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from socket import create_server
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import Final

from bench.children import Child, started
from bench.peers import OURS
from bench.report import Beside, Budget, Measurement, Report, Row
from tensorwire.servers.embedded import DIGITS

NAME: Final = "start to ready, ONNX digits"
NEEDED: Final = frozenset({"onnxruntime"})
HEAVY: Final = (
    *("catboost", "dask", "fsspec", "grpc", "h5py", "jax", "joblib", "keras", "lightgbm", "matplotlib", "onnx"),
    *("onnxruntime", "pandas", "pyarrow", "scipy", "skl2onnx", "sklearn", "skops", "tensorflow", "torch", "xgboost"),
)
"""Packages that take long to import; a server needs those of the models that it has."""

_LIMIT = 1.0  # seconds
_PATIENCE = 30.0
_FLOOR = "Python with onnxruntime"
_ALONE = "import onnxruntime, sys; onnxruntime.InferenceSession(sys.argv[1]); print(1)"


def run(report: Report, rounds: int) -> None:
    """Measure the rows into the report: the server, and a Python that only loads the model, in turns."""
    taken: dict[str, list[float]] = {OURS: [], _FLOOR: []}
    for _ in range(rounds):
        taken[OURS].append(time_to_ready())
        taken[_FLOOR].append(time_alone())
    for subject, samples in taken.items():
        report.measurements.append(Measurement("process", NAME, subject, samples=samples))
    ours, floor = taken[OURS], taken[_FLOOR]
    beside = Beside(_FLOOR, median(floor), min(floor))
    report.rows.append(Row("process", NAME, median(ours), min(ours), Budget("1 s", _LIMIT), beside))
    found = imported()
    extra = sorted(found - NEEDED)
    report.rows.append(
        Row(
            "process",
            "frameworks imported in vain",
            len(extra),
            len(extra),
            Budget("none", 0),
            unit="",
            note=", ".join(extra) or f"imported: {', '.join(sorted(found))}",
        )
    )


def time_to_ready() -> float:
    """Seconds from starting the command to the first 200 of /readyz."""
    start = perf_counter()
    with _serving() as (child, port):
        _wait(child, port)
        return perf_counter() - start


def time_alone() -> float:
    """Seconds for a Python process to load the same model with the framework alone, up to where it could run it."""
    start = perf_counter()
    with started([sys.executable, "-c", _ALONE, str(DIGITS)]):
        return perf_counter() - start


def imported() -> set[str]:
    """Which of HEAVY the command has imported when it has answered /readyz, by ``python -X importtime``."""
    command = [sys.executable, "-X", "importtime"]
    with TemporaryDirectory(prefix="bench-") as folder:
        log = Path(folder) / "imports"
        with _serving(command, log) as (child, port):
            _wait(child, port)
        names = re.findall(r"^import time:.*\| +([\w.]+)$", log.read_text(), re.M)
    if "tensorwire" not in names:
        raise AssertionError("python -X importtime did not show the server's own modules")
    return {name.partition(".")[0] for name in names} & set(HEAVY)


@contextmanager
def _serving(python: list[str] | None = None, log: Path | None = None) -> Iterator[tuple[Child, int]]:
    with create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    arguments = ["-m", "tensorwire", "serve", str(DIGITS), "--listen", f"127.0.0.1:{port}", "--no-access-log"]
    with started([*(python or [sys.executable]), *arguments], wait=False, log=log) as child:
        yield child, port


def _wait(child: Child, port: int) -> None:
    until = perf_counter() + _PATIENCE
    while perf_counter() < until:
        if child.ended:
            raise child.failed()
        connection = HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            pass
        finally:
            connection.close()
        sleep(0.002)
    raise TimeoutError(f"not ready within {_PATIENCE:g} s")
