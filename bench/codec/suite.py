"""The codec's rows: ours, one warm memcpy of the same payload, and the original package's codec."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench.children import ask
from bench.measure import Effort, Times, interleave
from bench.peers import ORIGINAL, OURS, load
from bench.peers.peer import Peer
from bench.report import Budget, Measurement, Report, Row
from bench.workload import SHAPES, SMALL, STRINGS, Array, floats, small_tensors, strings
from tensorwire import Chunk, Request, decode, encode

MEMCPY = "one memcpy"
_PICKLE = "pickle 5"
_SMALL_COUNT = 1000
_MEMORY_LIMIT = 10_000  # bytes beyond the message, whatever its size

Calls = dict[str, Callable[[], Any]]


def run(report: Report, effort: Effort) -> None:
    """Measure all codec rows into the report."""
    original = _original()
    for size in SHAPES:
        _one_tensor(report, effort, size, original)
    _write_into(report, effort)
    _many_tensors(report, effort, original)
    _many_strings(report, effort, original)
    for size in SHAPES:
        _memory(report, size)


def _original() -> Peer | None:
    try:
        return load(ORIGINAL)
    except ModuleNotFoundError:
        return None


def _measure(report: Report, effort: Effort, name: str, calls: Calls, scale: float = 1.0) -> dict[str, Times]:
    """Times by subject; ``scale`` is the number of calls' results that one figure is shared by."""
    found = {}
    for subject, times in interleave(calls, effort).items():
        times.samples[:] = [seconds / scale for seconds in times.samples]
        report.record("codec", name, subject, times)
        found[subject] = times
    return found


def _one_tensor(report: Report, effort: Effort, size: str, original: Peer | None) -> None:
    x = floats(SHAPES[size])
    request = Request({"x": x}, outputs=["y"])
    message = bytes(encode(request))
    target = np.empty_like(x)
    copy = partial(np.copyto, target, x)
    calls: Calls = {OURS: partial(encode, request), MEMCPY: copy}
    if original is not None:
        calls[ORIGINAL] = partial(original.encode, {"x": x})
    for name, budget in (("encode", Budget("5 µs", 5e-6)), ("decode", Budget("2 µs", 2e-6))):
        if name == "decode":
            calls = {OURS: partial(decode, message, Request), MEMCPY: copy}
            if original is not None:
                calls[ORIGINAL] = partial(original.decode, original.encode({"x": x}))
        row = f"{name} {size}"
        found = _measure(report, effort, row, calls)
        report.add("codec", row, found, budget, MEMCPY)


def _write_into(report: Report, effort: Effort) -> None:
    """The whole message into one warm block, beside a copy of the payload alone to the same place in it."""
    x = floats(SHAPES["77 MB"])
    request = Request({"x": x}, outputs=["y"])
    nbytes = encode(request).nbytes
    block = Chunk(nbytes)
    payload = np.frombuffer(memoryview(block), np.uint8)[nbytes - x.nbytes :]
    source = x.reshape(-1).view(np.uint8)
    calls: Calls = {
        OURS: lambda: encode(request).write_into(block),
        MEMCPY: partial(np.copyto, payload, source),
    }
    row = "encode and write_into, 77 MB"
    found = _measure(report, effort, row, calls)
    report.add("codec", row, found, Budget("1.15 x memcpy", 1.15 * found[MEMCPY].median), MEMCPY)


def _many_tensors(report: Report, effort: Effort, original: Peer | None) -> None:
    tensors = small_tensors()
    request = Request(tensors)
    message = bytes(encode(request))
    encoders: Calls = {OURS: partial(encode, request)}
    decoders: Calls = {OURS: partial(decode, message, Request)}
    if original is not None:
        encoders[ORIGINAL] = partial(original.encode, tensors)
        decoders[ORIGINAL] = partial(original.decode, original.encode(tensors))
    for name, calls in (("encode", encoders), ("decode", decoders)):
        row = f"{name} {SMALL}, each"
        found = _measure(report, effort, row, calls, _SMALL_COUNT)
        report.add("codec", row, found, Budget("1 µs", 1e-6))


def _many_strings(report: Report, effort: Effort, original: Peer | None) -> None:
    values: dict[str, Array] = {"s": strings()}
    request = Request(values)
    message, pickled = bytes(encode(request)), pickle.dumps(values, 5)
    encoders: Calls = {OURS: partial(encode, request), _PICKLE: partial(pickle.dumps, values, 5)}
    decoders: Calls = {OURS: partial(decode, message, Request), _PICKLE: partial(pickle.loads, pickled)}
    if original is not None:
        encoders[ORIGINAL] = partial(original.encode, values)
        decoders[ORIGINAL] = partial(original.decode, original.encode(values))
    for name, calls in (("encode", encoders), ("decode", decoders)):
        row = f"{name} {STRINGS}"
        found = _measure(report, effort, row, calls)
        report.add("codec", row, found, Budget("less than pickle", found[_PICKLE].median), _PICKLE)


def _memory(report: Report, size: str) -> None:
    found = ask("bench.codec.memory", OURS, size)
    row = f"memory of decode, {size}"
    report.measurements.append(Measurement("codec", row, OURS, "B", samples=[found["traced"]]))
    report.measurements.append(Measurement("codec", row, f"{OURS}, RSS", "B", samples=[found["resident"]]))
    budget = Budget("10 kB", _MEMORY_LIMIT)
    report.rows.append(Row("codec", row, found["traced"], found["traced"], budget, unit="B"))
