"""What tests of servers share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Start, start_processes


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts Python with arguments, in a folder of the test; what still runs at the end is killed."""
    yield from start_processes(tmp_path)
