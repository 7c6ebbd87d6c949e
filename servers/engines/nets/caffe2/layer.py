"""One operator of a Caffe2 net while it is turned into nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tensorwire.servers.engines.nets.caffe2.netdef import Arguments, Operator
from tensorwire.servers.engines.nets.files import printable
from tensorwire.servers.engines.nets.graph import Graph
from tensorwire.servers.model import ModelError

__all__ = ["Convert", "Layer"]


@dataclass(frozen=True, slots=True)
class Layer:
    """``inputs`` are the graph's tensors that the operator reads; ``wanted`` says which of its outputs are read."""

    graph: Graph
    op: Operator
    inputs: tuple[str, ...]
    wanted: tuple[bool, ...]

    @property
    def x(self) -> str:
        """The first input."""
        return self.inputs[0]

    @property
    def arguments(self) -> Arguments:
        return self.op.arguments

    def weights(self, start: int = 1) -> tuple[str, ...]:
        """Names of the inputs from ``start`` on, for messages."""
        return tuple("weight " + printable(name, quote=True) for name in self.op.inputs[start:])

    @property
    def channels_last(self) -> bool:
        """The order is NHWC. Raises ModelError for an order that is neither that nor NCHW."""
        order = self.arguments.text("order", "NCHW")
        if order not in ("NCHW", "NHWC"):
            raise ModelError(f"order {printable(order)} is neither NCHW nor NHWC")
        return order == "NHWC"

    def channels_first(self) -> str:
        """The first input as [N, C, ...], transposed when the order is NHWC."""
        if not self.channels_last:
            return self.x
        rank = self.graph.rank(self.x)
        return self.graph.add("Transpose", [self.x], perm=[0, rank - 1, *range(1, rank - 1)])

    def ordered(self, y: str) -> str:
        """A result [N, C, ...] in the operator's order."""
        if not self.channels_last:
            return y
        rank = self.graph.rank(y)
        return self.graph.add("Transpose", [y], perm=[0, *range(2, rank), 1])


Convert = Callable[[Layer], str | Sequence[str]]
"""Makes an operator's nodes; returns its outputs. Outputs that it leaves out do not exist outside of training."""
