"""Calls that are made and timed in another process, one turn at a time; standard library alone, any Python's.

The process prints a line when it is ready, then, for each line with a number, makes the call that often and prints
the seconds that it took.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from itertools import repeat
from time import perf_counter
from typing import Any

from bench.children import Child


class Turns:
    """The side that asks."""

    def __init__(self, child: Child) -> None:
        self._child = child

    def seconds(self, loops: int) -> float:
        """Have the call made so often; the seconds it took there. Raises ChildFailed."""
        return float(self._child.ask(str(loops)))


def take_turns(call: Callable[[], Any], ready: Any = True) -> None:
    """The side that is asked, until its standard input ends. The garbage collector is off, as in ``timeit``."""
    gc.collect()
    gc.disable()
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        start = perf_counter()
        for _ in repeat(None, int(line)):
            call()
        print(json.dumps(perf_counter() - start), flush=True)
