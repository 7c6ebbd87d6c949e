"""Which Python has a peer's packages: ours, or one of the virtual environments in $TENSORWIRE_PEERS or build/peers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from bench.children import ROOT

__all__ = ["MissingPeer", "find_python"]


class MissingPeer(LookupError):
    """A peer's packages are nowhere to be found; the text says which and what to do."""


@cache
def find_python(needs: tuple[str, ...]) -> str:
    """An interpreter that can import all of ``needs`` (names of packages). Raises MissingPeer."""
    for prefix in _prefixes():
        if all(_has(prefix, name) for name in needs):
            return str(prefix / "bin" / "python")
    raise MissingPeer(f"{', '.join(needs[:-1])} not installed: make bench-peers")


def _prefixes() -> Iterator[Path]:
    yield Path(sys.prefix)
    named = os.environ.get("TENSORWIRE_PEERS")
    for folder in ([Path(named)] if named else []) + [ROOT / "build" / "peers"]:
        yield from _environments(folder.glob("*/bin/python"))


def _environments(pythons: Iterable[Path]) -> Iterator[Path]:
    for python in sorted(pythons):
        yield python.parents[1]


def _has(prefix: Path, name: str) -> bool:
    return any(True for _ in prefix.glob(f"lib/python3*/site-packages/{name}/__init__.py"))
