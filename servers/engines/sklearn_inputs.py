"""What rows a scikit-learn estimator takes: numbers, text for each row, or columns of text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tensorwire._messages import TensorSpec
from tensorwire.servers.engines.tabular import brief
from tensorwire.servers.model import Array, ModelError, RequestError

__all__ = ["decoded", "input_of"]

_TEXT = np.dtype(object)
_WORDS = "a word"


def input_of(
    path: Path, first: Any, estimator: Any, names: Sequence[str], declared: Sequence[TensorSpec]
) -> tuple[TensorSpec, list[Array]]:
    """The input, and single rows of it to try the estimator with.

    ``first`` is what sees the rows first; ``names`` are the features'; ``declared`` comes before what the estimator
    tells. Raises ModelError when neither says how many features there are, and for columns of text beside numbers,
    which one tensor cannot hold.
    """
    if len(declared) > 1:
        raise ModelError(f"{path}: takes one input, not {len(declared)}")
    if declared:
        shape = [1 if n < 0 else n for n in declared[0].shape] or [1]
        dtype = declared[0].dtype
        if dtype is not None and dtype.kind == "O":
            return declared[0], [np.full(shape, _WORDS, object)]
        return declared[0], [np.full(shape, value, dtype) for value in (0, 1)]
    if hasattr(first, "build_analyzer"):
        return TensorSpec("text", _TEXT, (-1,), "one text for each row"), [np.full(1, _WORDS, object)]
    count = getattr(estimator, "n_features_in_", None)
    if count is None:
        raise ModelError(
            f"{path}: {type(estimator).__name__} does not say how many features it takes: is it fitted? "
            "If so, give them: --inputs 'x:float64[?, 4]'"
        )
    about = brief(names)
    row = [values[0] for values in getattr(first, "categories_", ()) if len(values)]
    words = [isinstance(value, str) for value in row]
    if len(row) == count and any(words):
        if not all(words):
            raise ModelError(
                f"{path}: takes columns of text beside columns of numbers, which one tensor cannot hold: serve it by "
                "a Python function"
            )
        return TensorSpec("x", _TEXT, (-1, count), about), [np.array([row], object)]
    samples = [np.zeros((1, count)), np.ones((1, count))]
    if len(row) == count:
        samples.insert(0, np.array([row], np.float64))
    return TensorSpec("x", None, (-1, count), about), samples


def decoded(x: Array) -> Array:
    """Text as str, a copy. Raises RequestError 400 for what is not UTF-8."""
    try:
        texts = [item.decode() if isinstance(item, bytes) else str(item) for item in x.ravel()]
    except UnicodeDecodeError as error:
        raise RequestError(400, f"the text is not UTF-8: {error}") from None
    found = np.empty(len(texts), object)
    found[:] = texts
    return found.reshape(x.shape)
