"""Models of tables: rows of features in, and for each row a label, a number or probabilities out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tensorwire._messages import TensorSpec
from tensorwire.servers.model import DEFAULT_SIGNATURE, Array, Model, ModelError, RequestError, Signature

__all__ = ["TabularModel", "as_classes", "brief", "class_outputs", "read_head", "softmax"]

_NUMBERS = "biuf"
_LISTED = 20
_SAMPLE = 2  # rows of the probe: one could not be told from a feature


class TabularModel(Model):
    """One input, and outputs with a row for each of its rows; their dtypes and shapes are found by a probe.

    Subclasses set what they need and then call ``_declare``; ``_compute`` is their work. Numbers may come as any
    integer, float or bool dtype, since all of these libraries convert for themselves what they cannot read in place.
    """

    _refusals: tuple[type[Exception], ...] = ()
    """What the library raises for values that it does not take: the request's fault."""

    _closed = False

    @abstractmethod
    def _compute(self, x: Array, outputs: Sequence[str]) -> Mapping[str, Any]:
        """The outputs that are named, and maybe more, for one row or more."""

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        """``inputs`` is read in place where the library can; results are arrays of its own.

        No rows are answered without asking the library, which would refuse them.
        """
        if self._closed:
            raise RequestError(503, f"model {self.name!r} is closed")
        x = inputs[self._input.name]
        if self._input.dtype is None and x.dtype.kind not in _NUMBERS:
            raise RequestError(400, f"input {self._input.name!r}: {x.dtype.name} came, expected numbers")
        if not len(x):
            return {name: np.empty((0, *self._specs[name].shape[1:]), self._specs[name].dtype) for name in outputs}
        try:
            found = self._compute(x, outputs)
        except self._refusals as error:
            raise RequestError(400, " ".join(str(error).split())) from None
        return {name: _typed(found[name], self._specs[name].dtype) for name in outputs}

    def close(self) -> None:
        """Refuse later calls."""
        self._closed = True

    def _declare(self, x: TensorSpec, sample: Array, outputs: Mapping[str, str]) -> None:
        """Set the signature: the outputs by name, with their descriptions, as computed for rows of ``sample``."""
        found = self._compute(np.concatenate([sample] * _SAMPLE), tuple(outputs))
        specs = []
        for name, description in outputs.items():
            value = np.asarray(found[name])
            if value.shape[:1] != (_SAMPLE,):
                raise ModelError(f"{name} of {_SAMPLE} rows has the shape {list(value.shape)}")
            dtype = np.dtype(object) if value.dtype.kind in "OUS" else value.dtype
            specs.append(TensorSpec(name, dtype, (-1, *value.shape[1:]), description))
        self._input = x
        self._specs: Mapping[str, TensorSpec] = {spec.name: spec for spec in specs}
        self.signatures = {DEFAULT_SIGNATURE: Signature(DEFAULT_SIGNATURE, (x,), tuple(specs))}


def class_outputs(classes: Sequence[Any]) -> dict[str, str]:
    """The outputs of a classifier, with their descriptions."""
    names = brief(classes)
    return {"predict": f"the class: {names}", "predict_proba": f"probabilities of {names}"}


def as_classes(value: Array) -> dict[str, Array]:
    """``predict`` and ``predict_proba`` from the probability of class 1, or of each class, of each row."""
    if value.ndim == 1:
        value = np.stack([1 - value, value], axis=1)
    return {"predict": value.argmax(axis=1), "predict_proba": value}


def brief(names: Sequence[Any]) -> str:
    """Names with commas, and how many more there are."""
    more = len(names) - _LISTED
    return ", ".join([str(name) for name in names[:_LISTED]]) + (f" and {more} more" if more > 0 else "")


def softmax(margin: Array) -> Array:
    """Probabilities from the margins of each row."""
    raised = np.exp(margin - margin.max(axis=1, keepdims=True))
    found: Array = raised / raised.sum(axis=1, keepdims=True)
    return found


def read_head(path: Path, size: int = 4096) -> bytes:
    """The first bytes of a file; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""


def _typed(value: Any, dtype: np.dtype[Any] | None) -> Array:
    """A result in the declared dtype: some estimators answer in the dtype that came."""
    found: Array = np.asarray(value)
    return found if dtype is None or dtype.kind == "O" else found.astype(dtype, copy=False)
