"""Requests that a model answers before it takes any, so that the first caller does not wait for what is lazy."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from tensorwire._messages import TensorSpec
from tensorwire.servers.model import Array, Model, Signature

__all__ = ["warm_up"]

_log = logging.getLogger("tensorwire.repository")
_MOST_VALUES = 1 << 24  # of a made input: a guess at a shape must not fill the memory


def warm_up(model: Model, path: Path) -> None:
    """Run every signature of a model once, with zeros of the declared shapes (a free dimension is 1).

    A signature that cannot be guessed (inputs undeclared, of unknown rank or of text) is left out, and one that
    fails on the guess is logged and not held against the model: it may be right to refuse zeros.
    """
    for signature in model.signatures.values():
        inputs = _zeros(signature)
        if inputs is None:
            continue
        outputs = tuple(spec.name for spec in signature.outputs)
        try:
            model.run(signature.name, inputs, outputs)
        except Exception as error:
            reason = " ".join(str(error).split())
            _log.warning("%s: warm-up of %r with zeros failed: %s", path, signature.name, reason)


def _zeros(signature: Signature) -> dict[str, Array] | None:
    if signature.any_inputs:
        return None
    inputs = {}
    for spec in signature.inputs:
        array = _zero(spec)
        if array is None:
            return None
        inputs[spec.name] = array
    return inputs


def _zero(spec: TensorSpec) -> Array | None:
    dtype = spec.dtype
    # An empty shape may be a scalar or an undeclared rank.
    if dtype is None or dtype.kind == "O" or not spec.shape:
        return None
    shape = tuple(size if size >= 0 else 1 for size in spec.shape)
    return np.zeros(shape, dtype) if np.prod(shape, dtype=np.float64) <= _MOST_VALUES else None
