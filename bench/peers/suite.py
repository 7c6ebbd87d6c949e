"""Every peer on every workload, and where ours stands among those that yield the same thing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from bench.children import ask
from bench.measure import SLOW, Effort, Times, interleave, timed
from bench.peers import NAMES, OURS, load
from bench.peers.peer import Peer
from bench.peers.races import is_ours, race
from bench.report import Measurement, Report
from bench.workload import SHAPES, SMALL, STRINGS, Array, tensors

WORKLOADS = (*SHAPES, SMALL, STRINGS)
MEMORY_SIZE = "6 MB"
_QUICK_LIMIT = 10_000_000  # bytes; what slow peers get at most in a quick run


def run(report: Report, effort: Effort, quick: bool) -> None:
    """Measure all peers into the report."""
    found: dict[str, Peer] = {}
    for name in NAMES:
        try:
            found[name] = load(name)
        except ModuleNotFoundError as error:
            report.note("peers", "", name, f"{error.name} is not installed")
    for workload in WORKLOADS:
        _workload(report, effort, quick, workload, found)
    for name in found:
        if name == OURS or not is_ours(name):
            _memory(report, name)
    for workload in WORKLOADS:
        _stand(report, workload, found)
    _stand_memory(report)


def _workload(report: Report, effort: Effort, quick: bool, workload: str, found: Mapping[str, Peer]) -> None:
    values = tensors(workload)
    nbytes = sum(array.nbytes for array in values.values())
    encoders: dict[str, Callable[[], Any]] = {}
    decoders: dict[str, Callable[[], Any]] = {}
    for name, peer in found.items():
        limit = min(peer.largest, _QUICK_LIMIT) if quick and peer.slow else peer.largest
        note = peer.lacks.get(workload, "")
        if nbytes > limit:
            note = "takes too long"
        if note:
            report.note("peers", f"encode {workload}", name, note)
            report.note("peers", f"decode {workload}", name, note)
            continue
        of_strings = workload == STRINGS
        encode: Callable[[], Any] = partial(peer.encode_strings if of_strings else peer.encode, values)
        message, took = timed(encode)
        size = Measurement("peers", f"size of {workload}", name, "B", samples=[peer.nbytes(message)])
        report.measurements.append(size)
        received = peer.received(message)
        decode: Callable[[], Any] = partial(peer.decode_strings if of_strings else peer.decode, received)
        arrays, spent = timed(decode)
        _check(name, workload, values, arrays)
        del arrays, message
        if took > SLOW:
            report.record("peers", f"encode {workload}", name, Times(1, [took]))
        else:
            encoders[name] = encode
        if is_ours(name) and name != OURS:  # ours decodes in one way, however it was encoded
            continue
        if spent > SLOW:
            report.record("peers", f"decode {workload}", name, Times(1, [spent]))
        else:
            decoders[name] = decode
    for verb, calls in (("encode", encoders), ("decode", decoders)):
        for name, times in interleave(calls, effort).items():
            report.record("peers", f"{verb} {workload}", name, times)


def _check(name: str, workload: str, sent: Mapping[str, Array], got: Any) -> None:
    """A codec that loses something is not measured."""
    arrays: Sequence[Array] = got if isinstance(got, list) else [got[key] for key in sent]
    for before, after in zip(sent.values(), arrays, strict=True):
        if workload == STRINGS:
            values = [item.encode() if isinstance(item, str) else item for item in after.tolist()]
            same = values == before.tolist()
        else:
            same = before.dtype == after.dtype and np.array_equal(before, after)
        if not same:
            raise AssertionError(f"{name}, {workload}: what was decoded is not what was encoded")


def _memory(report: Report, name: str) -> None:
    found = ask("bench.codec.memory", name, MEMORY_SIZE)
    for key in ("traced", "resident"):
        workload = f"memory of decode, {MEMORY_SIZE}, {key}"
        report.measurements.append(Measurement("peers", workload, name, "B", samples=[found[key]]))


def _stand(report: Report, workload: str, found: Mapping[str, Peer]) -> None:
    """Three races to encode, by what comes out, and one to decode."""
    names = list(found)
    races = {
        f"encode {workload} to buffers": [n for n in names if found[n].yields == "buffers"],
        f"encode {workload} to bytes": [n for n in names if found[n].yields == "bytes"],
        # A copy in any kind of memory: all but those that only refer to the arrays, and our slower way.
        f"encode {workload} to one block": [
            n for n in names if found[n].yields == "block" or (found[n].yields == "bytes" and not is_ours(n))
        ],
        f"decode {workload}": [n for n in names if n == OURS or not is_ours(n)],
    }
    for row, entrants in races.items():
        key = row.partition(" to ")[0]
        taken = {n: m.median for n in entrants if (m := report.find("peers", key, n)) and m.median is not None}
        race(report, row, taken)


def _stand_memory(report: Report) -> None:
    row = f"memory of decode, {MEMORY_SIZE}, traced"
    taken = {m.subject: m.samples[0] for m in report.measurements if m.workload == row}
    race(report, row, taken, "B")
