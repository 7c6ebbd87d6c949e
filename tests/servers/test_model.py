"""Signatures and the check of requests and results against them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tensorwire import Tensors, TensorSpec, TensorwireError
from tensorwire.servers.check import Check, ResultError
from tensorwire.servers.model import Model, ModelError, RequestError, Signature, quoted

TWO = Check(
    Signature(
        "s",
        (TensorSpec("a", np.float32, (-1, 8)), TensorSpec("b", np.int64, (2,))),
        (TensorSpec("y", np.float32), TensorSpec("z", np.float32)),
    )
)
PROMISED = Check(Signature("s", (), (TensorSpec("y", np.float32, (-1, 2)),)))
OPEN = Check(Signature("s", (), (), open=True))
A, B = np.zeros((3, 8), np.float32), np.zeros(2, np.int64)
B32 = np.zeros(2, np.float32)


def refusal(check: Check, tensors: Any) -> str:
    with pytest.raises(RequestError) as caught:
        check.feeds(Tensors(tensors))
    assert caught.value.code == 400
    return caught.value.message


@pytest.mark.parametrize("tensors", [[A, B], {"a": A, "b": B}, {"b": B, "a": A}])
def test_inputs_come_out_by_name_in_the_signatures_order_and_are_the_same_arrays(tensors: Any) -> None:
    feeds = TWO.feeds(Tensors(tensors))
    assert list(feeds) == ["a", "b"]
    assert feeds["a"] is A
    assert feeds["b"] is B


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([], "no input came, the model takes 'a', 'b'"),
        ([A], "1 input came, the model takes 'a', 'b'"),
        ([A, B, B], "3 inputs came, the model takes 'a', 'b'"),
        ({"a": A}, "input 'b' is missing: the model takes 'a', 'b'"),
        ({"a": A, "b": B, "c": B}, "unknown input 'c': the model takes 'a', 'b'"),
        ({"a": A, "B": B}, "unknown input 'B': the model takes 'a', 'b'"),
        ([A.reshape(24), B], "input 'a': shape [24] float32 came, expected [-1, 8] float32"),
        ([A.reshape(8, 3), B], "input 'a': shape [8, 3] float32 came, expected [-1, 8] float32"),
        ([A.astype("f8"), B], "input 'a': shape [3, 8] float64 came, expected [-1, 8] float32"),
        (
            [A.astype(">f4"), B],
            "input 'a': shape [3, 8] float32 (byte-swapped) came, expected [-1, 8] float32",
        ),
        ([A, np.zeros((), "i8")], "input 'b': shape [] int64 came, expected [2] int64"),
        ([A, np.array([b"x", b"y"], object)], "input 'b': shape [2] string came, expected [2] int64"),
        (
            [A.astype(ml_dtypes.bfloat16), B],
            "input 'a': shape [3, 8] bfloat16 came, expected [-1, 8] float32",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_what_came_and_what_is_expected(tensors: Any, message: str) -> None:
    assert refusal(TWO, tensors) == message


def test_a_name_that_came_twice_is_refused() -> None:
    """Under its own name and another one: a message has no name twice."""
    check = Check(Signature("s", (TensorSpec("x:0"),), (), aliases={"x": "x:0"}))
    assert refusal(check, {"x": A, "x:0": A}) == "input 'x:0' came twice"


def test_an_empty_size_fits_a_free_dimension_and_a_fixed_one_of_zero() -> None:
    check = Check(Signature("s", (TensorSpec("x", np.float32, (-1, 0)),), ()))
    assert check.feeds(Tensors([np.zeros((0, 0), np.float32)]))
    assert "expected [-1, 0]" in refusal(check, [np.zeros((0, 1), np.float32)])


def test_an_undeclared_dtype_or_rank_is_not_checked() -> None:
    check = Check(Signature("s", (TensorSpec("x"), TensorSpec("y", np.float32)), ()))
    feeds = check.feeds(Tensors([B, A]))
    assert feeds["x"] is B
    assert refusal(check, [B, B]) == "input 'y': shape [2] int64 came, expected any shape float32"


def test_text_may_be_fixed_width_strings_in_the_same_process() -> None:
    check = Check(Signature("s", (TensorSpec("t", object, (-1,)),), ()))
    assert check.feeds(Tensors([np.array(["a", "bc"])]))
    assert check.feeds(Tensors([np.array([b"a"], object)]))


def test_what_is_no_array_becomes_one() -> None:
    feeds = TWO.feeds(Tensors([A, [1, 2]]))
    assert feeds["b"].dtype == np.int64


def test_a_model_without_inputs_takes_an_empty_request() -> None:
    assert Check(Signature("s", (), ())).feeds(Tensors()) == {}
    assert refusal(Check(Signature("s", (), ())), [A]) == "1 input came, the model takes none"


def test_outputs_default_to_all_and_unknown_ones_are_404() -> None:
    assert TWO.asked(()) == ("y", "z")
    assert TWO.asked(("z",)) == ("z",)
    with pytest.raises(RequestError, match="unknown output 'q': the model has 'y', 'z'") as caught:
        TWO.asked(("y", "q"))
    assert caught.value.code == 400


def test_another_name_of_a_tensor_is_as_good_but_not_beside_its_own() -> None:
    specs = TensorSpec("x:0", np.float32), TensorSpec("y:0", np.float32)
    check = Check(Signature("s", specs[:1], specs, aliases={"x": "x:0", "y": "y:0", "z": "gone:0"}))
    one = np.float32([1])
    for name in ("x", "x:0"):
        assert check.feeds(Tensors({name: one})) == {"x:0": one}
    assert check.asked(("y", "x:0")) == ("y:0", "x:0")
    with pytest.raises(RequestError, match="input 'x:0' came twice"):
        check.feeds(Tensors({"x": one, "x:0": one}))
    with pytest.raises(RequestError, match="unknown input 'y'"):
        check.feeds(Tensors({"y": one}))
    with pytest.raises(RequestError, match="unknown output 'z': the model has 'x:0', 'y:0'"):
        check.asked(("x", "z"))


def test_undeclared_sides_take_anything() -> None:
    assert list(OPEN.feeds(Tensors([A, B]))) == ["0", "1"]
    assert list(OPEN.feeds(Tensors({"q": A}))) == ["q"]
    assert OPEN.asked(("whatever",)) == ("whatever",)
    half = Check(Signature("s", (TensorSpec("x", np.float32),), (), open=True))
    assert half.signature.any_outputs
    assert not half.signature.any_inputs
    assert "unknown input 'y'" in refusal(half, {"y": A})


def test_results_come_in_the_order_asked_for_without_a_copy() -> None:
    results = TWO.results({"y": A, "z": B32, "more": 1}, ("z", "y"))
    assert list(results) == ["z", "y"]
    assert results["y"] is A
    assert results["z"] is B32


def test_results_that_are_no_arrays_become_arrays() -> None:
    results = OPEN.results({"y": [1.5, 2.5], "t": ["a", "bc"], "n": 3}, ())
    assert results["y"].dtype == np.float64
    assert results["t"].dtype == object
    assert results["t"].tolist() == ["a", "bc"]
    assert results["n"].shape == ()


@pytest.mark.parametrize(
    ("value", "came"),
    [
        (np.zeros((3, 2), np.float64), "shape [3, 2] float64"),
        (np.zeros((3, 4), np.float32), "shape [3, 4] float32"),
        (np.zeros(2, np.float32), "shape [2] float32"),
        (np.float32(1), "shape [] float32"),
        (np.zeros((3, 2), np.int32), "shape [3, 2] int32"),
        (np.zeros((3, 2), ml_dtypes.bfloat16), "shape [3, 2] bfloat16"),
        (np.array([["a", "b"]]), "shape [1, 2] string"),
        ([[1j, 2j]], "shape [1, 2] complex128"),
    ],
)
def test_a_result_that_breaks_the_promise_is_named(value: Any, came: str) -> None:
    with pytest.raises(ResultError) as caught:
        PROMISED.results({"y": value}, ("y",))
    assert str(caught.value) == f"output 'y': {came} came from the model, [-1, 2] float32 is declared"


@pytest.mark.parametrize("dtype", ["f4", ">f4", ml_dtypes.bfloat16, ml_dtypes.float8_e5m2, "?", object, None])
def test_a_result_that_keeps_the_promise_passes_as_it_is(dtype: Any) -> None:
    check = Check(Signature("s", (), (TensorSpec("y", None if dtype == ">f4" else dtype, (-1, 2)),)))
    for rows in (0, 3):
        value = np.zeros((rows, 2), dtype)
        assert check.results({"y": value}, ())["y"] is value


def test_byte_order_is_no_broken_promise() -> None:
    value = np.zeros((3, 2), ">f4")
    assert PROMISED.results({"y": value}, ())["y"] is value


def test_an_empty_declared_shape_promises_nothing() -> None:
    for shape in ((), (1,), (2, 3, 4)):
        assert TWO.results({"y": np.zeros(shape, np.float32)}, ("y",))["y"].shape == shape


@pytest.mark.parametrize("value", [[[1.5, 2.5]], ((1, 2),), [[True, False]]])
def test_numbers_of_python_get_the_declared_dtype(value: Any) -> None:
    result = PROMISED.results({"y": value}, ())["y"]
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, value)


def test_fractions_do_not_become_integers() -> None:
    whole = Check(Signature("s", (), (TensorSpec("n", np.int64, (-1,)),)))
    assert whole.results({"n": []}, ())["n"].dtype == np.int64
    with pytest.raises(ResultError, match=r"shape \[1\] float64 came from the model, \[-1\] int64 is declared"):
        whole.results({"n": [1.5]}, ())


def test_a_sloppy_shape_is_told_once_and_sent(caplog: pytest.LogCaptureFixture) -> None:
    check = Check(PROMISED.signature, exact=False)
    value = np.zeros((3, 5), np.float32)
    for _ in range(3):
        assert check.results({"y": value}, ())["y"] is value
    assert [record.message for record in caplog.records] == [
        "output 'y': shape [3, 5] float32 came from the model, [-1, 2] float32 is declared; "
        "it is sent as it is, and not told again"
    ]
    with pytest.raises(ResultError, match="int32"):
        check.results({"y": value.astype("i4")}, ())


def test_none_is_no_result() -> None:
    with pytest.raises(TypeError, match="None was returned where an array is expected"):
        OPEN.results({"y": None}, ())


def test_a_missing_result_is_the_models_fault_if_declared_and_the_requests_if_not() -> None:
    with pytest.raises(ResultError, match="output 'z' is declared"):
        TWO.results({"y": A}, ("y", "z"))
    with pytest.raises(RequestError, match="unknown output 'z': the model has 'y'") as caught:
        OPEN.results({"y": A}, ("z",))
    assert caught.value.code == 400


def test_a_long_list_of_names_is_cut() -> None:
    check = Check(Signature("s", tuple(TensorSpec(f"i{n}") for n in range(100)), ()))
    assert refusal(check, []).endswith("'i19' and 80 more")


def test_names_from_requests_are_printed_on_one_short_line() -> None:
    assert quoted("a\nb") == r"'a\nb'"
    assert len(quoted("x" * 10_000)) < 100


def test_errors_are_of_the_librarys_tree() -> None:
    error = RequestError(404, "no such thing")
    assert isinstance(error, TensorwireError)
    assert isinstance(ModelError("x"), TensorwireError)
    assert str(error) == "no such thing (code 404)"
    with pytest.raises(TypeError, match="abstract"):
        Model()  # type: ignore[abstract]
