"""``pytest bench``: the benchmarks that pytest-benchmark runs; plain ``pytest`` does not collect them."""

from __future__ import annotations

import sys
from pathlib import Path

# The modules beside the tests are the package `bench`, from wherever pytest is started.
sys.path.insert(0, str(Path(__file__).parents[1]))
