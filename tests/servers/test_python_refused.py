"""Python that cannot be a model: one line that says which part of it, and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tensorwire.servers.declare import model, signature
from tensorwire.servers.engines.python_model import as_model
from tensorwire.servers.model import ModelError

Rows = Annotated[NDArray[np.float32], "float32[?, 4]"]
X = np.arange(8, dtype=np.float32).reshape(2, 4)


class Classifier:
    def __init__(self, threshold: float, path: Path | None = None, exact: bool = False) -> None: ...

    def predict(self, x: Rows) -> Any: ...


class Callee:
    def __call__(self, x: Rows) -> Any: ...


class Both:
    @signature()
    def one(self, x: Rows) -> Any: ...

    @signature()
    def two(self, x: Rows) -> Any: ...


def one(x: Rows) -> Any: ...


class Refuses:
    def __init__(self) -> None:
        raise OSError("no such weights")


def unresolved(inputs: NoSuchName) -> Any:  # type: ignore[name-defined] # noqa: F821
    return inputs


def generator(x: Rows) -> Any:
    yield x


def double_default() -> Any:
    class Twice:
        @signature(default=True)
        def a(self, x: Rows) -> Any: ...

        @signature(default=True)
        def b(self, x: Rows) -> Any: ...

    return Twice


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (Classifier, {}, "Classifier needs the option threshold: --option threshold=..."),
    (Classifier, {"threshold": "high"}, "option threshold is a number, not 'high'"),
    (Classifier, {"threshold": "1", "exact": "maybe"}, "option exact is 1 or 0, not 'maybe'"),
    (Callee, {"size": 1}, "Callee has no option size: it takes none"),
    (Refuses, {}, r"Refuses raised OSError: no such weights \(test_python_refused.py, line \d+\)"),
    (one, {"device": "cpu"}, "^one has no option device"),
    (one, {"concurrency": "x"}, "option concurrency is a number"),
    (one, {"inputs": "x:f[?]"}, "unknown dtype 'f'"),
    (Both, {"inputs": "x:float32"}, "Both has several signatures"),
    (object(), {}, "object is no model: it can neither be called nor has it a method predict"),
    (lambda: 1, {}, "it has no parameters"),
    (generator, {}, "generator is a generator"),
    (double_default(), {}, "several default signatures: a, b"),
    (model(inputs="a,b")(lambda x, y: x), {}, "its parameters are x, y, its declared inputs a, b"),
]


@pytest.mark.parametrize(("thing", "options", "message"), BAD)
def test_what_cannot_be_a_model_says_why_on_one_line(thing: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        as_model(thing, options)
    assert "\n" not in str(caught.value)


def scalar(x: Rows, y: float) -> Any: ...
def renamed(x: Annotated[NDArray[Any], "z:float32[?]"]) -> Any: ...
def optional(x: Rows, y: Rows = X) -> Any: ...
def typo(x: Annotated[NDArray[Any], "flaot32[?]"]) -> Any: ...
def tensor(x: Annotated[list[float], "float32[?]"]) -> Any: ...
def when(x: NDArray[np.datetime64]) -> Any: ...


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (scalar, "scalar: parameter 'y' is annotated as <class 'float'>: inputs are numpy arrays"),
        (renamed, "renamed: parameter 'x' is declared under another name: 'z'"),
        (optional, "optional: parameter 'y' has a default: every input of a signature must be sent"),
        (typo, "typo: .* unknown dtype 'flaot32'"),
        (tensor, r"tensor: 'x' is declared as 'float32\[\?\]' and annotated as list\[float\]: models get numpy arrays"),
        (when, "when: 'x' is annotated as .*datetime64"),
    ],
)
def test_annotations_that_cannot_be_inputs(fn: Callable[..., Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        as_model(fn)


def test_decorators_refuse_what_they_cannot_read() -> None:
    with pytest.raises(ModelError, match="unknown dtype 'flaot32'"):
        model(inputs={"x": "flaot32[?]"})
    with pytest.raises(ModelError, match="'x' is declared under another name: 'y:float32'"):
        model(inputs={"x": "y:float32"})
    with pytest.raises(ModelError, match="concurrency is 1 or more, not 0"):
        model(concurrency=0)
    with pytest.raises(ModelError, match="is no TensorSpec"):
        signature(outputs=["y"])  # type: ignore[list-item]


def test_annotations_that_cannot_be_resolved_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert not as_model(unresolved).signatures["serving_default"].inputs
    assert "annotations of unresolved are not used: NameError" in caplog.text
