"""Models that note their runs, and calls of them, for tests of the row cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tensorwire import TensorSpec
from tensorwire.servers.model import Array, Model, Signature
from tensorwire.servers.scheduling.row_cache import CachedModel
from tensorwire.servers.scheduling.row_store import RowStore

__all__ = ["SIZE", "Counted", "ask", "proven", "rows", "same", "spec", "summing", "sums"]

SIZE = 1 << 24
Function = Callable[[Mapping[str, Array]], dict[str, Any]]


class Counted(Model):
    """A function of arrays that notes the inputs of each run."""

    def __init__(self, function: Function, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        self.name = "counted"
        self.signatures = {
            name: Signature(name, tuple(inputs), tuple(outputs)) for name in ("serving_default", "other")
        }
        self.function = function
        self.runs: list[dict[str, Array]] = []

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Any]:
        self.runs.append(dict(inputs))
        return {name: array for name, array in self.function(inputs).items() if name in outputs}

    @property
    def rows(self) -> list[int]:
        return [len(next(iter(inputs.values()))) for inputs in self.runs]


def spec(name: str, dtype: Any = np.float32, shape: tuple[int, ...] = (-1, -1)) -> TensorSpec:
    return TensorSpec(name, np.dtype(dtype), shape)


def sums(inputs: Mapping[str, Array]) -> dict[str, Any]:
    return {"double": inputs["x"] * 2, "sum": inputs["x"].sum(1)}


def summing() -> Counted:
    return Counted(sums, [spec("x")], [spec("double"), spec("sum", shape=(-1,))])


def ask(model: Model, *outputs: str, signature: str = "serving_default", **inputs: Array) -> Mapping[str, Array]:
    names = outputs or tuple(s.name for s in model.signatures[signature].outputs)
    return model.run(signature, inputs, names)


def rows(*values: float) -> Array:
    """A row of three for each value."""
    return np.array([[v, v + 1, v + 2] for v in values], np.float32).reshape(-1, 3)


def same(found: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        if array.dtype.hasobject:
            assert [(type(v), v) for v in found[name].flat] == [(type(v), v) for v in array.flat]
        else:
            assert found[name].tobytes() == array.tobytes()


def proven(model: Counted, store: RowStore, model_id: str = "id") -> CachedModel:
    """The model with a cache that has seen that its outputs are made of rows."""
    cached = CachedModel(model, store, model_id)
    ask(cached, x=rows(-1000, -1001))
    store.flush()
    model.runs.clear()
    return cached
