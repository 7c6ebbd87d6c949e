"""Models over the wire, beside the framework called in process and a round trip of as many bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from bench.children import ChildFailed, child, running
from bench.engines.cuda import cuda_missing
from bench.engines.models import Case, cases, copied, on_gpu
from bench.measure import Effort, Times, interleave
from bench.peers import OURS
from bench.report import Beside, Budget, Report, Row
from bench.turns import Turns
from bench.workload import Array, floats
from tensorwire import Client

DIRECT: Final = "in process"
READY: Final = "echo"
"""A server that has the answer ready: the same request and the same answer, and nothing computed."""

_COUNTED = 2  # requests
_FACTOR = 1.05  # of the call in process and the echo together


def run(report: Report, effort: Effort) -> None:
    """Measure all rows into the report."""
    with TemporaryDirectory(prefix="bench-") as folder:
        for case in cases():
            try:
                with calls(case, Path(folder)) as found:
                    _row(report, case, interleave(found, replace(effort, pause=case.model.rest)))
            except ChildFailed as error:
                report.skip("engines", case.name, error.reason)
        for case in copied():
            name = f"bytes copied, {case.name}"
            try:
                nbytes = copies(case, Path(folder))
                report.rows.append(Row("engines", name, nbytes, nbytes, Budget("none", 0), unit="B"))
            except ChildFailed as error:
                report.skip("engines", name, error.reason)
        missing = cuda_missing()
        for case in on_gpu():
            try:
                if missing:
                    report.skip("engines", case.name, missing)
                    continue
                with calls(case, Path(folder)) as found:
                    _row(report, case, interleave(found, replace(effort, pause=case.model.rest)))
            except ChildFailed as error:
                report.skip("engines", case.name, error.reason)


def copies(case: Case, folder: Path) -> float:
    """Bytes of tensors that a server copies for a request and its answer, both ways, once it knows the connection.

    The first request of a connection is not counted: the server then reads its head together with what follows it.
    Raises ChildFailed.
    """
    x = floats(case.shape)
    with child("bench.engines.copies", str(case.model.path(folder))) as server, Client(server.ready) as client:
        name = client.metadata().inputs[0].name
        client.infer({name: x})
        before = server.ask("now")
        for _ in range(_COUNTED):
            client.infer({name: x})
        after = server.ask("now")
    return float(sum(after[way] - before[way] for way in after)) / _COUNTED


@contextmanager
def calls(case: Case, folder: Path) -> Iterator[dict[str, Callable[[], Any] | Turns]]:
    """The three that are compared, by name; all in processes of their own, of which one at a time has work.

    Raises ChildFailed: a framework or its engine is not installed.
    """
    path, x = str(case.model.path(folder)), floats(case.shape)
    expected, ready = folder / "expected.npz", folder / "ready.npz"
    listen = ("--listen", "127.0.0.1:0")
    there = () if case.device == "cpu" else ("--option", f"device={case.device}")
    there += () if case.locked else ("--pageable",)
    with ExitStack() as stack:
        shape = ",".join(map(str, case.shape))
        about = (case.model.framework, path, shape, case.device, str(expected))
        direct = stack.enter_context(child("bench.engines.direct", *about))
        client = _client(stack, stack.enter_context(running("bench.server", path, *listen, *there)))
        name = client.metadata().inputs[0].name
        answer = client.infer({name: x})
        _compare(case, np.load(expected), answer)
        np.savez(ready, **dict[str, Any](answer))
        echo = _client(stack, stack.enter_context(running("bench.server", str(ready), *listen)))
        yield {
            DIRECT: Turns(direct),
            READY: partial(echo.infer, {name: x}),
            OURS: partial(client.infer, {name: x}),
        }


def _client(stack: ExitStack, urls: list[str]) -> Client:
    return stack.enter_context(Client(urls[0]))


def _compare(case: Case, expected: Mapping[str, Array], answer: Mapping[str, Array]) -> None:
    """A server that answers something else is not measured; the order of outputs is the model's in both. GPUs multiply
    with fewer bits, and in another order each time.
    """
    for before, after in zip(expected.values(), answer.values(), strict=True):
        limits = (1e-3, 1e-4) if case.device == "cpu" else (2e-2, 2e-2 * float(np.abs(before).max()))
        if before.shape != after.shape or not np.allclose(before, after, *limits):
            raise AssertionError(f"{case.name}: the server does not answer what the framework does")


def _row(report: Report, case: Case, found: Mapping[str, Times]) -> None:
    for subject, times in found.items():
        report.record("engines", case.name, subject, times)
    direct, ready, ours = (found[subject] for subject in (DIRECT, READY, OURS))
    budget: Budget | None
    if case.device != "cpu":
        beside, budget = Beside(DIRECT, direct.median, direct.best), None
    elif case.slack is None:
        least = direct.median + ready.median
        beside = Beside(f"{DIRECT} + {READY}", least, direct.best + ready.best)
        budget = Budget(f"{_FACTOR:g} x both", _FACTOR * least)
    else:
        beside = Beside(DIRECT, direct.median, direct.best)
        budget = Budget(f"{DIRECT} + {case.slack * 1e3:g} ms", direct.median + case.slack)
    report.rows.append(Row("engines", case.name, ours.median, ours.best, budget, beside))
