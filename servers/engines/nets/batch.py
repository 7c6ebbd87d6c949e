"""Whether a network can take any number of rows, or only those that its inputs were declared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tensorwire._messages import TensorSpec
from tensorwire.servers.engines.nets.graph import Graph

__all__ = ["check_batch", "with_any_batch"]

_T = TypeVar("_T")


class _FixedBatch(Exception):
    """The network reshapes rows to a number that is in the file."""


def with_any_batch(specs: Sequence[TensorSpec], build: Callable[[Graph, tuple[TensorSpec, ...]], _T]) -> _T:
    """Build with a first dimension of any size, and where that cannot be, again with the declared one."""
    freed = tuple(TensorSpec(spec.name, spec.dtype, [-1, *spec.shape[1:]] if spec.shape else []) for spec in specs)
    try:
        return build(Graph(any_batch=True), freed)
    except _FixedBatch:
        return build(Graph(), tuple(specs))


def check_batch(graph: Graph, x: str, shape: Sequence[int]) -> None:
    """To be called before ``x`` is reshaped: a number in ``shape`` where rows of any number are ends the attempt."""
    sizes = graph.sizes(x)
    if graph.any_batch and sizes and sizes[0] is None and shape and shape[0] > 0:
        raise _FixedBatch
