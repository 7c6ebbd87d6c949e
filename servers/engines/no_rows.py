"""Requests without a row, which frameworks fail at in words that do not say so."""

from __future__ import annotations

from collections.abc import Mapping

from tensorwire.servers.model import Array

__all__ = ["no_rows"]


def no_rows(inputs: Mapping[str, Array]) -> str:
    """What to add to a framework's error: ' (the request has 0 rows)' when an input's first dimension is 0, else ''."""
    empty = any(x.ndim and not x.shape[0] for x in inputs.values())
    return " (the request has 0 rows)" if empty else ""
