"""ONNX Runtime: what a model declares, every dtype, and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="these models run on onnxruntime")
pytest.importorskip("onnx", reason="these models are made with onnx")

from onnx import helper
from onnx_models import ELEMENT, save, tensor

from tensorwire import Request, TensorSpec
from tensorwire.servers.embedded import heldout
from tensorwire.servers.engines import ort as engine
from tensorwire.servers.model import Model, ModelError, RequestError
from tensorwire.servers.repository.local import open_model
from tensorwire.servers.service import Service

FLOAT = ELEMENT.FLOAT
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def load(path: Path, **options: Any) -> Model:
    return engine.ENGINE.load(path, options=options)


def relu(folder: Path, **fields: Any) -> Path:
    return save(folder, [("Relu", ["x"], ["y"])], [tensor("x", FLOAT)], [tensor("y", FLOAT)], **fields)


def test_several_inputs_and_outputs_with_free_and_fixed_dimensions(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [("Add", ["a", "b"], ["sum"]), ("Mul", ["a", "b"], ["product"])],
        [tensor("a", FLOAT, ("n", 3)), tensor("b", FLOAT, (1, 3))],
        [tensor("sum", FLOAT, ("n", 3)), tensor("product", FLOAT, None)],
    )
    model = load(path)
    signature = model.signatures[model.default_signature]
    assert signature.inputs == (
        TensorSpec("a", np.float32, (-1, 3)),
        TensorSpec("b", np.float32, (1, 3)),
    )
    assert signature.outputs == (
        TensorSpec("sum", np.float32, (-1, 3)),
        TensorSpec("product", np.float32, (-1, 3)),  # inferred by ONNX Runtime
    )
    ones = np.ones((1, 3), np.float32)
    found = model.run("", {"a": X, "b": ones * 2}, ("product", "sum"))
    np.testing.assert_array_equal(found["product"], X * 2)
    np.testing.assert_array_equal(found["sum"], X + 2)
    assert list(model.run("", {"a": X, "b": ones}, ("sum",))) == ["sum"]


def test_a_value_that_an_operator_refuses_is_a_bad_request(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [("Gather", ["x", "i"], ["y"])],
        [tensor("x", FLOAT), tensor("i", ELEMENT.INT64)],
        [tensor("y", FLOAT, None)],
    )
    with pytest.raises(RequestError, match="out of data bounds, idx=99") as caught:
        load(path).run("", {"x": X[0], "i": np.array([99])}, ("y",))
    assert caught.value.code == 400


def test_an_input_that_is_a_scalar_or_of_any_rank_is_declared_alike(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [("Identity", ["scalar"], ["y"]), ("Identity", ["any"], ["z"])],
        [tensor("scalar", FLOAT, ()), tensor("any", FLOAT, None)],
        [tensor("y", FLOAT, ()), tensor("z", FLOAT, None)],
    )
    model = load(path)
    assert [spec.shape for spec in model.signatures[model.default_signature].inputs] == [(), ()]
    found = model.run("", {"scalar": X[1, 2, ...], "any": X}, ("y", "z"))
    assert found["y"].shape == ()
    assert found["z"].shape == (2, 3)


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    model = load(relu(tmp_path, name="m", doc_string="two\nlines", producer_name="us", model_version=7))
    assert (model.name, model.version, model.description) == ("m", "7", "two lines (made by us)")
    assert model.engine.startswith("onnxruntime ")
    assert model.engine.endswith(" (CPU)")
    assert load(relu(tmp_path)).version == "1"
    assert not model.inline


DTYPES = {
    "float32": ELEMENT.FLOAT,
    "float64": ELEMENT.DOUBLE,
    "float16": ELEMENT.FLOAT16,
    "int8": ELEMENT.INT8,
    "int16": ELEMENT.INT16,
    "int32": ELEMENT.INT32,
    "int64": ELEMENT.INT64,
    "uint8": ELEMENT.UINT8,
    "uint16": ELEMENT.UINT16,
    "uint32": ELEMENT.UINT32,
    "uint64": ELEMENT.UINT64,
    "bool": ELEMENT.BOOL,
}


@pytest.mark.parametrize(("dtype", "element"), list(DTYPES.items()))
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), ()])
def test_every_dtype_survives(tmp_path: Path, dtype: str, element: int, shape: tuple[int, ...]) -> None:
    dims = None if not shape else ("n", 3)
    path = save(
        tmp_path, [("Identity", ["x"], ["y"])], [tensor("x", element, dims)], [tensor("y", element, dims)]
    )
    model = load(path)
    assert model.signatures[model.default_signature].inputs[0].dtype == np.dtype(dtype)
    x = np.arange(6).astype(dtype).reshape(2, 3)[: shape[0] if shape else 2]
    x = x if shape else x[1, 2, ...]
    y = model.run("", {"x": x}, ("y",))["y"]
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, x)
    assert not np.shares_memory(x, y)


def text_model(folder: Path) -> Model:
    element = ELEMENT.STRING
    return load(
        save(
            folder,
            [("Identity", ["x"], ["y"])],
            [tensor("x", element)],
            [tensor("y", element), tensor("x", element)],
        )
    )


@pytest.mark.parametrize(
    "x",
    [
        np.array([b"a", "é".encode(), b"nul\0in\0", b""], object),
        np.array(["a", "é", "nul\0in\0", ""], object),
    ],
    ids=["bytes", "str"],
)
def test_text_comes_out_as_utf8_with_its_nuls(tmp_path: Path, x: Any) -> None:
    model = text_model(tmp_path)
    spec = model.signatures[model.default_signature].inputs[0]
    assert spec.dtype == np.dtype(object)
    y = model.run("", {"x": x}, ("y",))["y"]
    assert y.dtype == object
    assert y.tolist() == [b"a", "é".encode(), b"nul\0in\0", b""]
    assert model.run("", {"x": x}, ("x",))["x"].tolist() == y.tolist()
    assert model.run("", {"x": np.array(["ab", "c"])}, ("y",))["y"].tolist() == [b"ab", b"c"]
    assert model.run("", {"x": np.array([], object)}, ("y",))["y"].shape == (0,)


def test_text_that_is_not_utf8_is_the_requests_fault(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="input 'x': not UTF-8") as caught:
        text_model(tmp_path).run("", {"x": np.array([b"\xff"], object)}, ("y",))
    assert caught.value.code == 400


def test_outputs_that_cannot_be_sent_are_left_out(tmp_path: Path) -> None:
    maybe = helper.make_value_info("o", helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, None)))
    nodes = [("Optional", ["x"], ["o"]), ("Relu", ["x"], ["y"])]
    model = load(save(tmp_path, nodes, [tensor("x", FLOAT)], [maybe, tensor("y", FLOAT)]))
    assert [spec.name for spec in model.signatures[model.default_signature].outputs] == ["y"]
    with pytest.raises(ModelError, match=r"none of the outputs .*: 'o' is optional\(.*may be nothing"):
        load(save(tmp_path, nodes[:1], [tensor("x", FLOAT)], [maybe]))
    taken = helper.make_tensor_sequence_value_info("q", FLOAT, None)
    with pytest.raises(ModelError, match=r"input 'q' is a seq\(tensor\(float\)\), which cannot be sent"):
        load(save(tmp_path, [("SequenceLength", ["q"], ["n"])], [taken], [tensor("n", ELEMENT.INT64, ())]))
    small = [helper.make_node("Cast", ["x"], ["y"], to=FLOAT)]
    for element, name in ((ELEMENT.INT4, "int4"), (ELEMENT.UINT4, "uint4")):
        with pytest.raises(ModelError, match=rf"input 'x' is a tensor\({name}\), .*: add a Cast to a wider type"):
            load(save(tmp_path, small, [tensor("x", element)], [tensor("y", FLOAT)], opset=21))


def test_text_beside_bfloat16_is_refused_at_load(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [("Identity", ["t"], ["u"]), ("Identity", ["x"], ["y"])],
        [tensor("t", ELEMENT.STRING), tensor("x", ELEMENT.BFLOAT16)],
        [tensor("u", ELEMENT.STRING), tensor("y", ELEMENT.BFLOAT16)],
    )
    with pytest.raises(ModelError, match="cannot be served together"):
        load(path)


def test_a_model_without_inputs_runs(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [("Neg", ["w"], ["y"])],
        [],
        [tensor("y", FLOAT, (2,))],
        constants={"w": np.array([1, 2], np.float32)},
    )
    assert load(path).run("", {}, ("y",))["y"].tolist() == [-1, -2]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((2, 4), np.float32), "Got invalid dimensions for input: x .* Got: 4 Expected: 3 .code"),
        (np.ones(3, np.float32), "Invalid rank for input: x Got: 1 Expected: 2 .code"),
        (np.ones((2, 3)), "Unexpected input data type"),
    ],
)
def test_what_the_runtime_refuses_is_a_bad_request_on_one_line(tmp_path: Path, x: Any, message: str) -> None:
    path = save(
        tmp_path, [("Relu", ["x"], ["y"])], [tensor("x", FLOAT, ("n", 3))], [tensor("y", FLOAT, ("n", 3))]
    )
    with pytest.raises(RequestError, match=message) as caught:
        load(path).run("", {"x": x}, ("y",))
    assert caught.value.code == 400
    assert "ONNXRuntimeError" not in caught.value.message


def test_a_failing_model_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = save(
        tmp_path,
        [("MatMul", ["a", "b"], ["y"])],
        [tensor("a", FLOAT, ("n", "k")), tensor("b", FLOAT, ("l", "m"))],
        [tensor("y", FLOAT, None)],
    )
    with pytest.raises(Exception, match="dimension mismatch") as caught:
        load(path).run("", {"a": X, "b": X}, ("y",))
    assert not isinstance(caught.value, RequestError)
    assert capfd.readouterr() == ("", "")


def test_files_that_are_no_models_say_so_on_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good = relu(tmp_path).read_bytes()
    nope = save(tmp_path, [("Nope", ["x"], ["y"])], [tensor("x", FLOAT)], [tensor("y", FLOAT)], name="nope")
    cases = {
        "empty": (b"", "the file is empty"),
        "text": (b"hello world\n" * 10, "not an ONNX model, or cut short"),
        "short": (good[: len(good) // 2], "not an ONNX model, or cut short"),
        "header": (good[:2], "not an ONNX model, or cut short: no graph in it"),
        "opset": (
            relu(tmp_path, opset=99).read_bytes(),
            "needs opset 99 of ai.onnx, ONNX Runtime .* knows .* and older",
        ),
        "operator": (nope.read_bytes(), "No Op registered for Nope"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelError, match=message) as caught:
            load(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        assert "/onnxruntime/" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_options(tmp_path: Path) -> None:
    path = relu(tmp_path)
    model: Any = load(
        path,
        intra_op_num_threads="1",
        inter_op_num_threads=2,
        concurrency=3,
        providers="CPUExecutionProvider",
    )
    options = model._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads, model.concurrency) == (1, 2, 3)
    assert 1 <= load(path).concurrency <= 4
    for wrong, message in (
        ({"intra_op_num_threads": "many"}, "option intra_op_num_threads is a number, 0 or more, not 'many'"),
        ({"concurrency": -1}, "option concurrency is a number"),
        ({"threads": 1}, "the onnx engine has no option threads"),
        ({"providers": ["NoSuchProvider"]}, "no execution provider 'NoSuchProvider': ONNX Runtime knows .*cuda"),
    ):
        with pytest.raises(ModelError, match=message):
            load(path, **wrong)


def test_a_closed_model_refuses(tmp_path: Path) -> None:
    model = load(relu(tmp_path))
    model.close()
    model.close()
    with pytest.raises(RequestError, match="model 'model' is closed") as caught:
        model.run("", {"x": X[0]}, ("y",))
    assert caught.value.code == 503


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": X, "more": X}, "unknown input 'more'"),
        ({}, "no input came"),
        ({"x": X[0]}, r"shape \[3\] float32 came, expected \[-1, 3\]"),
        ({"x": np.array([["1", "2", "3"]], object)}, "string came, expected .* float32"),
        ({"x": X.astype(np.float64)}, "float64 came, expected .* float32"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_and_the_next_one_served(
    tmp_path: Path, inputs: Any, message: str
) -> None:
    import asyncio

    path = save(
        tmp_path, [("Relu", ["x"], ["y"])], [tensor("x", FLOAT, ("n", 3))], [tensor("y", FLOAT, ("n", 3))]
    )

    async def main() -> None:
        service = Service([open_model(path)])
        try:
            with pytest.raises(RequestError, match=message) as caught:
                await service.infer(Request(inputs))
            assert caught.value.code == 400
            for x in (X, X[:0], np.full((1, 3), np.nan, np.float32)):
                found = (await service.infer(Request({"x": x}))).outputs["y"]
                np.testing.assert_array_equal(found, x)
        finally:
            service.close()

    asyncio.run(main())


def test_the_embedded_model_reads_digits_through_the_service() -> None:
    import asyncio

    images, labels = heldout()

    async def main() -> Any:
        service = Service([open_model()])
        try:
            return (await service.infer(Request({"image": images}, ["label"]))).outputs["label"]
        finally:
            service.close()

    assert (asyncio.run(main()) == labels).mean() > 0.9
