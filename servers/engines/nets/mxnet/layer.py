"""One node of an MXNet symbol while it is turned into nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tensorwire.servers.engines.nets.files import printable
from tensorwire.servers.engines.nets.graph import Graph
from tensorwire.servers.engines.nets.mxnet.symbol import Attributes
from tensorwire.servers.model import ModelError

__all__ = ["Convert", "Layer", "check_layout"]


@dataclass(frozen=True, slots=True)
class Layer:
    """``inputs`` are the graph's tensors that the node reads, ``names`` the nodes that they come from."""

    graph: Graph
    attributes: Attributes
    inputs: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def x(self) -> str:
        """The first input."""
        return self.inputs[0]

    def weight(self, at: int) -> str:
        """The name of an input, for messages."""
        return "weight " + printable(self.names[at], quote=True)


Convert = Callable[[Layer], str | Sequence[str]]
"""Makes a node's ONNX nodes; returns its outputs."""


def check_layout(attributes: Attributes) -> None:
    """Raises ModelError for a layout other than the default, which has channels first."""
    layout = attributes.text("layout", "NCHW")
    if not layout.startswith("NC"):
        raise ModelError(f"layout {printable(layout)} is not supported: channels come first, as in NCHW")
