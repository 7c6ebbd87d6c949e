"""Fit: what it accepts at first sight is what the slower look gives, too, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorwire import Tensors, TensorSpec
from tensorwire._fit import Fit
from tensorwire.servers.check import Check, ResultError
from tensorwire.servers.model import RequestError, Signature

DTYPES = [np.dtype(np.float32), np.dtype(np.int64), np.dtype(object)]
NAMES = ["a", "b", "c"]


@st.composite
def specs(draw: st.DrawFn) -> list[TensorSpec]:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=3))
    dtypes = st.sampled_from([None, *DTYPES])
    return [TensorSpec(name, draw(dtypes), draw(shapes(smallest=-1))) for name in names]


def shapes(smallest: int = 0) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(smallest, 2), max_size=3).map(tuple)


@st.composite
def values(draw: st.DrawFn) -> Any:
    """Mostly arrays, and what models return in their place."""
    shape = draw(shapes())
    kind = draw(st.sampled_from(["f4", "i8", "O", ">f4", "S", "U", "list", "matrix", "number"]))
    if kind == "list":
        return np.zeros(shape).tolist()
    if kind == "matrix":
        return np.zeros((1, 2), np.float32).view(np.matrix)
    if kind == "number":
        return 2
    if kind in "SU":
        return np.full(shape, "text", dtype="S4" if kind == "S" else "U4")
    return np.full(shape, b"text", object) if kind == "O" else np.zeros(shape, kind)


@given(
    specs(), st.lists(values(), max_size=3), st.sampled_from([(), *[tuple(NAMES[:n]) for n in (1, 2, 3)], ("b", "a")])
)
def test_inputs(wanted: list[TensorSpec], arrays: list[Any], names: tuple[str, ...]) -> None:
    tensors = Tensors(dict(zip(names, arrays, strict=False))) if names else Tensors(arrays)
    for open_ in (False, True):
        signature = Signature("s", tuple(wanted), (), open=open_)
        found = Fit(wanted, signature.any_inputs).inputs(tensors)
        if found is not None:
            slow = Check(signature)._feeds(tensors)
            assert list(found) == list(slow)
            assert all(found[name] is slow[name] for name in found)


@given(specs(), st.dictionaries(st.sampled_from(NAMES), values()), st.lists(st.sampled_from(NAMES)).map(tuple))
def test_outputs(wanted: list[TensorSpec], computed: dict[str, Any], asked: tuple[str, ...]) -> None:
    check = Check(Signature("s", (), tuple(wanted)))
    found = Fit(wanted).outputs(computed, asked)
    if found is not None:
        slow = check._results(computed, asked)
        assert list(found) == list(slow)
        assert all(found[name] is slow[name] for name in found)


X = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("shape", "array", "accepted"),
    [
        ((-1, 3), X, True),
        ((2, 3), X, True),
        ((), X, True),  # any shape
        ((-1, 4), X, False),
        ((-1, -1, -1), X, False),
        ((2, 3), X.astype(">f4"), False),
        ((2, 3), X.astype(np.float64), False),
        ((2, 3), X.view(np.ma.MaskedArray), False),
    ],
)
def test_what_is_accepted(shape: tuple[int, ...], array: Any, accepted: bool) -> None:
    fit = Fit([TensorSpec("x", np.float32, shape)])
    assert (fit.inputs(Tensors({"x": array})) is not None) is accepted
    assert (fit.inputs(Tensors([array])) is not None) is accepted
    assert (fit.outputs({"x": array}, ("x",)) is not None) is accepted
    assert fit.inputs(Tensors({"y": array})) is None
    assert fit.outputs({"y": array}, ("x",)) is None


def test_what_no_spec_describes() -> None:
    assert Fit([]).inputs(Tensors()) == {}
    assert Fit([]).inputs(Tensors([X])) is None
    assert Fit([], any=True).inputs(Tensors([X])) is None  # it has no name
    assert Fit([], any=True).inputs(Tensors({"q": X})) == {"q": X}
    assert Fit([]).outputs({"q": X}, ()) == {"q": X}
    assert Fit([]).outputs({"q": np.array(["a"])}, ()) is None


def test_what_fits_neither_way_is_refused_by_the_slower_look() -> None:
    check = Check(Signature("s", (TensorSpec("x", np.float32, (2,)),), (TensorSpec("y", np.float32, (2,)),)))
    with pytest.raises(RequestError, match=r"shape \[2, 3\] float32 came, expected \[2\] float32"):
        check.feeds(Tensors({"x": X}))
    with pytest.raises(ResultError, match=r"shape \[2, 3\] float32 came from the model, \[2\] float32 is declared"):
        check.results({"y": X}, ("y",))
