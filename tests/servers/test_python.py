"""Python functions, classes and objects as models: what they declare, how they are called, what they may not be."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from tensorwire import Request, TensorSpec
from tensorwire.servers.declare import model, signature
from tensorwire.servers.engines.echo import EchoModel
from tensorwire.servers.engines.python_model import as_model
from tensorwire.servers.model import Model, ModelError, RequestError
from tensorwire.servers.service import Service

Rows = Annotated[NDArray[np.float32], "float32[?, 4]"]
X = np.arange(8, dtype=np.float32).reshape(2, 4)


class Pair(NamedTuple):
    total: NDArray[np.float32]
    label: Annotated[NDArray[np.int64], "int64[?]"]


class Named(TypedDict):
    total: NDArray[np.float32]
    text: NDArray[np.str_]


def specs(thing: Any, **options: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    made = as_model(thing, options)
    only = made.signatures[made.default_signature]
    return only.inputs, only.outputs


def infer(thing: Any, inputs: Any, outputs: Any = (), **more: Any) -> dict[str, Any]:
    """What a request gets: checked, run, checked."""

    async def main() -> Any:
        service = Service([as_model(thing)])
        try:
            return await service.infer(Request(inputs, outputs, **more))
        finally:
            service.close()

    return dict(asyncio.run(main()).outputs)


def test_annotations_declare_inputs_and_outputs() -> None:
    def predict(x: Rows, scale: NDArray[np.float64]) -> Annotated[Any, "y:float32[?]"]:
        return (x * scale).sum(axis=1).astype(np.float32)

    assert specs(predict) == (
        (TensorSpec("x", np.float32, (-1, 4)), TensorSpec("scale", np.float64)),
        (TensorSpec("y", np.float32, (-1,)),),
    )
    found = infer(predict, {"scale": np.array(2.0), "x": X})
    assert found["y"].tolist() == [12.0, 44.0]
    with pytest.raises(RequestError, match=r"input 'x': shape \[2, 4\] float64 came, expected \[-1, 4\] float32"):
        infer(predict, [X.astype(np.float64), np.array(2.0)])
    with pytest.raises(RequestError, match="input 'scale' is missing"):
        infer(predict, {"x": X})


def one(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x


def two(x: Rows) -> tuple[NDArray[np.float32], Annotated[NDArray[Any], "second:int64[?]"]]:
    return x, np.arange(len(x))


def pair(x: Rows) -> Pair:
    return Pair(x.sum(axis=1), np.arange(len(x)))


def named(x: Rows) -> Named:
    return {"total": x.sum(axis=1), "text": np.array(["a"] * len(x))}


def brain(x: NDArray[ml_dtypes.bfloat16], y: NDArray[np.floating[Any]], z: np.ndarray[Any, Any]) -> Any:
    return x


@pytest.mark.parametrize(
    ("fn", "outputs"),
    [
        (one, [TensorSpec("output", np.float32)]),
        (two, [TensorSpec("output_0", np.float32), TensorSpec("second", np.int64, (-1,))]),
        (pair, [TensorSpec("total", np.float32), TensorSpec("label", np.int64, (-1,))]),
        (named, [TensorSpec("total", np.float32), TensorSpec("text", object)]),
    ],
)
def test_return_annotations_declare_outputs(fn: Any, outputs: list[TensorSpec]) -> None:
    assert list(specs(fn)[1]) == outputs
    assert list(infer(fn, [X])) == [spec.name for spec in outputs]


def test_dtypes_in_annotations() -> None:
    assert specs(brain) == ((TensorSpec("x", ml_dtypes.bfloat16), TensorSpec("y"), TensorSpec("z")), ())


def test_a_decorator_declares_what_annotations_do_not() -> None:
    @model(inputs={"x": "float32[?, 4]"}, outputs="y:float32[?]", name="sums", version=3, concurrency=2)
    def predict(x: Any) -> Any:
        """The sum of each row.

        More of it.
        """
        return x.sum(axis=1)

    made = as_model(predict)
    assert (made.name, made.version, made.concurrency, made.engine) == ("sums", "3", 2, "python")
    assert made.description == "The sum of each row."
    assert specs(predict) == ((TensorSpec("x", np.float32, (-1, 4)),), (TensorSpec("y", np.float32, (-1,)),))
    assert predict(X).tolist() == [6.0, 22.0]
    assert infer(predict, [X])["y"].tolist() == [6.0, 22.0]
    assert infer(predict, {"x": X}, model="sums", version=3)


def test_one_parameter_of_another_name_is_the_dict_of_all_inputs() -> None:
    @model(inputs="a:float32[?], b:float32[?]")
    def add(inputs: dict[str, Any]) -> Any:
        return {"sum": inputs["a"] + inputs["b"]}

    assert infer(add, {"b": X[0], "a": X[1]})["sum"].tolist() == [4.0, 6.0, 8.0, 10.0]
    assert infer(lambda inputs: {"y": inputs["q"]}, {"q": X})["y"].shape == (2, 4)
    assert infer(lambda inputs: inputs["0"], [X])["0"].shape == (2, 4)

    @model(inputs={"inputs": "float32[?]"})
    def same_name(inputs: dict[str, Any]) -> Any:
        return inputs["inputs"]

    assert infer(same_name, [X[0]])["0"].shape == (4,)


def test_two_parameters_are_two_inputs_and_keywords_are_any() -> None:
    assert specs(lambda a, b: a)[0] == (TensorSpec("a"), TensorSpec("b"))
    assert infer(lambda a, b: a - b, {"b": X, "a": X})["0"].sum() == 0

    def anything(**inputs: Any) -> Any:
        return inputs

    assert list(infer(anything, {"p": X, "q": X})) == ["p", "q"]
    assert infer(partial(lambda scale, a, *, b: a * b * scale, 2), {"a": X, "b": X})["0"].sum() == 2 * (X * X).sum()


def test_a_parameter_with_a_default_is_no_input() -> None:
    def scaled(x: Rows, factor: float = 3.0) -> Any:
        return x * factor

    assert specs(scaled)[0] == (TensorSpec("x", np.float32, (-1, 4)),)
    assert infer(scaled, [X])["0"].sum() == 3 * X.sum()


@pytest.mark.parametrize(
    ("declared", "returned", "message"),
    [
        ("y:float32[?]", X, r"output 'y': shape \[2, 4\] float32 came from the model, \[-1\] float32 is declared"),
        ("y:float32[?, 4]", X.astype("f8"), r"shape \[2, 4\] float64 came from the model, \[-1, 4\] float32 is decl"),
        ("y:string[?]", X[0], "string is declared"),
        ("y,z", X, "output 'z' is declared, and was not computed"),
        ("y", None, "None was returned"),
    ],
)
def test_a_result_that_is_not_as_declared_is_the_models_failure(declared: str, returned: Any, message: str) -> None:
    @model(outputs=declared)
    def predict(inputs: dict[str, Any]) -> Any:
        return {"y": returned}

    with pytest.raises(RequestError, match=message) as caught:
        infer(predict, [X])
    assert caught.value.code == 500


@pytest.mark.parametrize("returned", [[1, 2], [1.0, 2.0], (X[0, 1:3],), [X[0, 1:3]], {"y": [1, 2]}])
def test_lists_of_numbers_become_the_declared_dtype(returned: Any) -> None:
    @model(outputs="y:float32[2]")
    def predict(inputs: dict[str, Any]) -> Any:
        return returned

    y = infer(predict, [X])["y"]
    assert (y.dtype, y.tolist()) == (np.float32, [1.0, 2.0])


def test_results_are_handed_on_without_a_copy() -> None:
    made = as_model(one)
    assert made.run("", {"x": X}, ("output",))["output"] is X


class Classifier:
    """Counts what is over a threshold."""

    closed = 0

    def __init__(self, threshold: float, path: Path | None = None, exact: bool = False, **rest: Any) -> None:
        self.threshold, self.path, self.exact, self.rest = threshold, path, exact, rest

    def predict(self, x: Rows) -> Annotated[NDArray[Any], "n:int64"]:
        return np.asarray((x > self.threshold).sum())

    def close(self) -> None:
        type(self).closed += 1


def test_a_class_is_made_once_with_options_and_closed_once() -> None:
    options = {"threshold": "2.5", "path": "a/b", "exact": "yes", "more": "text", "concurrency": "3"}
    made: Any = as_model(Classifier, options)
    assert (made.name, made.description, made.concurrency) == ("Classifier", "Counts what is over a threshold.", 3)
    assert made.run("", {"x": X}, ())["n"] == 5
    thing = made._close.__self__
    assert (thing.threshold, thing.path, thing.exact, thing.rest) == (2.5, Path("a/b"), True, {"more": "text"})
    made.close()
    made.close()
    assert Classifier.closed == 1
    assert infer(Classifier(6), [X])["n"] == 1


class Callee:
    def __call__(self, x: Rows) -> Any:
        return x


class Both:
    @signature(inputs={"x": "float32[?, 4]"}, outputs={"sum": "float32[?]"})
    def total(self, x: Any) -> Any:
        return x.sum(axis=1)

    @signature(name="largest")
    def most(self, x: Rows) -> Annotated[Any, "max:float32[?]"]:
        return x.max(axis=1)


class More(Both):
    @signature(default=True)
    async def least(self, x: Rows) -> Annotated[Any, "min:float32[?]"]:
        await asyncio.sleep(0)
        return x.min(axis=1)


class Predicts(Both):
    @signature()
    def predict(self, x: Rows) -> Any:
        return x


def test_several_decorated_methods_are_several_signatures() -> None:
    made = as_model(Both)
    assert list(made.signatures) == ["total", "largest"]
    assert made.default_signature == "total"
    assert as_model(Predicts()).default_signature == "predict"
    assert as_model(More).default_signature == "least"
    assert infer(More, [X])["min"].tolist() == [0.0, 4.0]
    assert infer(More, [X], signature="largest")["max"].tolist() == [3.0, 7.0]
    assert infer(More, [X], signature="total")["sum"].tolist() == [6.0, 22.0]
    with pytest.raises(RequestError, match="no signature 'most': it has 'total', 'largest'"):
        infer(Both, [X], signature="most")
    assert list(as_model(Callee).signatures) == ["serving_default"]
    assert as_model(Callee()).name == "Callee"


def test_a_model_and_a_function_that_makes_one_are_served_as_they_are() -> None:
    made = EchoModel("mine")
    assert as_model(made) is made
    assert as_model(EchoModel, {"name": "other"}).name == "other"

    def make(name: str) -> Model:
        return EchoModel(name)

    assert as_model(make, {"name": "third"}).name == "third"
    with pytest.raises(ModelError, match="make has no option size: it takes name"):
        as_model(make, {"name": "n", "size": 1})
    with pytest.raises(ModelError, match="EchoModel has no option size"):
        as_model(made, {"size": 1})


def test_a_coroutine_function_runs_on_one_loop_many_at_once() -> None:
    meeting = threading.Barrier(3)
    seen = set()

    async def predict(x: Rows) -> Any:
        seen.add((threading.get_ident(), id(asyncio.get_running_loop())))
        await asyncio.to_thread(meeting.wait, 30)
        return x

    made = as_model(predict)
    assert made.concurrency == 16

    async def main() -> None:
        service = Service([made])
        try:
            found = await asyncio.gather(*(service.infer(Request([X])) for _ in range(3)))
            assert [len(one.outputs) for one in found] == [1, 1, 1]
        finally:
            service.close()

    asyncio.run(main())
    assert len(seen) == 1
    assert threading.get_ident() not in {thread for thread, _ in seen}
    with pytest.raises(RuntimeError, match="the model is closed"):
        made.run("", {"x": X}, ())


def test_what_the_users_code_raises_is_the_models_failure_and_a_request_error_is_the_requests() -> None:
    def predict(x: Rows) -> Any:
        if x[0, 0]:
            raise RequestError(400, "the first value is 0")
        raise ValueError("not today")

    with pytest.raises(RequestError, match="model 'predict' failed: ValueError: not today") as caught:
        infer(predict, [X])
    assert caught.value.code == 500
    with pytest.raises(RequestError, match="the first value is 0") as caught:
        infer(predict, [X + 1])
    assert caught.value.code == 400


def test_specs_as_options_come_first() -> None:
    assert specs(lambda inputs: inputs, inputs="x:float32[?, 4]", outputs="y") == (
        (TensorSpec("x", np.float32, (-1, 4)),),
        (TensorSpec("y"),),
    )
