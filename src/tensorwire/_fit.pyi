"""Whether tensors are what their specs say, as fast as it can be told."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

from numpy.typing import NDArray

from tensorwire._messages import Tensors, TensorSpec

@final
class Fit:
    def __init__(self, specs: Iterable[TensorSpec], any: bool = False) -> None: ...
    def inputs(self, tensors: Tensors) -> dict[str, NDArray[Any]] | None: ...
    def outputs(self, found: Mapping[str, Any], asked: Sequence[str]) -> dict[str, NDArray[Any]] | None: ...
