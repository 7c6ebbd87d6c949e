"""Timing: cases take turns, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from math import ceil
from statistics import median
from time import perf_counter, sleep
from typing import Any, Final

from bench.turns import Turns

SLOW: Final = 0.8  # seconds; a call that takes longer is made once


@dataclass(frozen=True)
class Effort:
    """How long to measure one case: seconds, and how many samples at least and at most.

    A sample repeats the call until it takes ``sample`` seconds. A call that takes over ``slow`` seconds is made once.
    Before each sample there is a ``pause`` in which threads that spin for more work go to sleep.
    """

    seconds: float
    least: int
    most: int
    sample: float = 200e-6
    slow: float = SLOW
    pause: float = 0.0


@dataclass
class Times:
    """Seconds per call, one figure a sample; each sample is the mean of ``loops`` calls."""

    loops: int = 1
    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return median(self.samples)

    @property
    def best(self) -> float:
        return min(self.samples)


class _Case:
    def __init__(self, call: Callable[[], Any] | Turns, effort: Effort) -> None:
        self.call = call
        self.times = Times()
        self.spent = 0.0
        self.effort = effort
        sample = effort.sample
        first = self.run()
        self.slow = first > effort.slow
        if self.slow:
            self.times.samples.append(first)
            return
        loops = 1
        while (took := self.run(loops)) < sample / 4:
            loops *= 4
        self.times.loops = max(1, ceil(sample / took * loops))

    def run(self, loops: int = 1) -> float:
        call = self.call
        if isinstance(call, Turns):
            return call.seconds(loops)
        start = perf_counter()
        for _ in repeat(None, loops):
            call()
        return perf_counter() - start

    def sample(self) -> None:
        if self.effort.pause:
            sleep(self.effort.pause)
        took = self.run(self.times.loops)
        self.spent += took
        self.times.samples.append(took / self.times.loops)

    @property
    def wants(self) -> bool:
        if self.slow:
            return False
        effort, count = self.effort, len(self.times.samples)
        return count < effort.least or (self.spent < effort.seconds and count < effort.most)


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Call once; the result and the seconds it took."""
    start = perf_counter()
    result = call()
    return result, perf_counter() - start


def interleave(cases: Mapping[str, Callable[[], Any] | Turns], effort: Effort) -> dict[str, Times]:
    """Measure the cases in turns: one sample of each a round, every other round backwards.

    Each is called twice or more before its first sample. The garbage collector is off, as in ``timeit``. A
    case that has used its time sits the later rounds out.
    """
    running: dict[str, _Case] = {}
    gc.collect()
    gc.disable()
    try:
        for name, call in cases.items():
            running[name] = _Case(call, effort)
        backwards = False
        while active := [case for case in running.values() if case.wants]:
            for case in reversed(active) if backwards else active:
                case.sample()
            backwards = not backwards
    finally:
        gc.enable()
    return {name: case.times for name, case in running.items()}
