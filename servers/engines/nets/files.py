"""Reading what a network is made of, and putting names from it into messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tensorwire.servers.model import ModelError

__all__ = ["LARGEST", "listed", "naming", "printable", "read_file"]

LARGEST = 2**31 - 1
"""Bytes of a file, and of all weights together: a protocol buffer, and so an ONNX graph, has no more."""

_LONGEST = 80
_LISTED = 20


def read_file(path: Path, largest: int = LARGEST) -> bytes:
    """The whole file. Raises ModelError when it cannot be read or is larger."""
    try:
        size = path.stat().st_size
        if size > largest:
            raise ModelError(f"{path}: {size:,} bytes are more than the {largest:,} that such a file may have")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from None


def printable(text: str, *, quote: bool = False) -> str:
    """Text of a file, safe on one line: cut when very long, and escaped (always quoted if ``quote``)."""
    cut = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    return repr(cut) if quote or not cut.isprintable() else cut


def listed(items: Sequence[str]) -> str:
    """Items with commas between them, and not more than fit on a few lines."""
    more = f" and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return ", ".join(items[:_LISTED]) + more


@contextmanager
def naming(what: object) -> Iterator[None]:
    """Puts a file or an operator before the text of a ModelError that is raised inside."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{what}: {error}") from None
