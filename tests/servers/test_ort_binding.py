"""ONNX Runtime: large outputs are written into Chunks, as soon as their shapes are known."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="these models run on onnxruntime")
pytest.importorskip("onnx", reason="these models are made with onnx")

from onnx import helper
from onnx_models import ELEMENT, save, tensor

from tensorwire._memory import pool_stats
from tensorwire.servers.engines import ort as engine
from tensorwire.servers.engines.ort.binding import LARGE, Binder
from tensorwire.servers.model import RequestError

FLOAT = ELEMENT.FLOAT
SMALL = 64  # bytes; for tests that need no large tensors


def owner(array: Any) -> str:
    """The type of the object at the end of an array's bases."""
    while isinstance(array, np.ndarray):
        array = array.base
    return type(array.obj if isinstance(array, memoryview) else array).__name__


def bound(folder: Path, nodes: Any, inputs: Any, outputs: Any, **fields: Any) -> Any:
    """A model that binds outputs from 64 bytes on."""
    model: Any = engine.ENGINE.load(save(folder, nodes, inputs, outputs, **fields), options={})
    model._binder = Binder(model._session, model._dtypes, large=SMALL)
    return model


def relu(folder: Path) -> Any:
    """Its output's size has a name of its own, so that runs have to show it."""
    return bound(folder, [("Relu", ["x"], ["y"])], [tensor("x", FLOAT)], [tensor("y", FLOAT, ("m",))])


def test_a_large_output_is_a_view_of_a_chunk_that_lives_as_long(tmp_path: Path) -> None:
    path = save(tmp_path, [("Relu", ["x"], ["y"])], [tensor("x", FLOAT)], [tensor("y", FLOAT, ("m",))])
    model = engine.ENGINE.load(path, options={})
    x = np.arange(LARGE // 4, dtype=np.float32)
    gc.collect()  # what other tests left behind
    before = pool_stats()["live_bytes"]
    assert owner(model.run("", {"x": x}, ("y",))["y"]) == "PyCapsule"
    first, second = (model.run("", {"x": x + n}, ("y",))["y"] for n in range(2))
    assert owner(first) == owner(second) == "Chunk"
    assert pool_stats()["live_bytes"] - before == 2 * LARGE
    assert first.ctypes.data % 64 == 0
    assert not np.shares_memory(first, second)
    assert first.flags.writeable
    model.close()
    del model
    gc.collect()
    np.testing.assert_array_equal(first, x)
    np.testing.assert_array_equal(second, x + 1)
    del first, second
    assert pool_stats()["live_bytes"] == before
    small = engine.ENGINE.load(path, options={})
    for _ in range(3):
        assert owner(small.run("", {"x": x[:-1]}, ("y",))["y"]) == "PyCapsule"


@pytest.mark.parametrize(
    ("taken", "given"),
    [(("n", 4), ("n", 4)), ((32, 4), (32, 4)), (("n", "k"), (32, "k")), ((None, "k"), (32, "k"))],
    ids=["same name", "sizes", "both", "unknown"],
)
def test_a_declared_shape_is_enough_for_the_first_run(tmp_path: Path, taken: Any, given: Any) -> None:
    model = bound(tmp_path, [("Relu", ["x"], ["y"])], [tensor("x", FLOAT, taken)], [tensor("y", FLOAT, given)])
    for step in range(3):
        x = np.full((32, 4), step, np.float32)
        y = model.run("", {"x": x}, ("y",))["y"]
        assert owner(y) == "Chunk"
        np.testing.assert_array_equal(y, x)
    assert not model._binder._known
    if taken[0] == "n" == given[0]:
        assert owner(model.run("", {"x": x[:3]}, ("y",))["y"]) == "PyCapsule"  # 48 bytes are few


@pytest.mark.parametrize("given", [(1, 32), (32, "n"), ("n", 32)])
def test_a_declared_shape_that_is_wrong_is_believed_once(tmp_path: Path, given: Any) -> None:
    """Exporters declare a batch of 1, for one; what the model gives counts. A place of another size than a number that
    is declared is refused by ONNX Runtime ever after, one of a size with a name is not.
    """
    nodes = [helper.make_node("Concat", ["x", "x"], ["y"], axis=0)]
    model = bound(tmp_path, nodes, [tensor("x", FLOAT, ("n", 32))], [tensor("y", FLOAT, given)])
    assert list(model._binder._promised) == ["y"]
    x = np.arange(64, dtype=np.float32).reshape(2, 32)
    for step in range(4):
        y = model.run("", {"x": x}, ("y",))["y"]
        assert (owner(y) == "Chunk") == (step > 0 and given == ("n", 32))
        np.testing.assert_array_equal(y, np.concatenate([x, x]))
        assert not model._binder._promised


def test_a_bad_request_does_not_end_the_belief(tmp_path: Path) -> None:
    model = bound(
        tmp_path,
        [("Gather", ["x", "i"], ["y"])],
        [tensor("x", FLOAT), tensor("i", ELEMENT.INT64, ("k",))],
        [tensor("y", FLOAT, ("k",))],
    )
    x, good = np.arange(100, dtype=np.float32), np.arange(50)
    with pytest.raises(RequestError, match="out of data bounds, idx=100"):
        model.run("", {"x": x, "i": good + 100}, ("y",))
    y = model.run("", {"x": x, "i": good}, ("y",))["y"]
    assert owner(y) == "Chunk"
    np.testing.assert_array_equal(y, x[:50])


def test_a_declared_output_beside_one_that_has_to_be_seen(tmp_path: Path) -> None:
    model = bound(
        tmp_path,
        [("Relu", ["x"], ["y"]), ("Neg", ["x"], ["z"])],
        [tensor("x", FLOAT)],
        [tensor("y", FLOAT), tensor("z", FLOAT, ("m",))],
    )
    x = np.arange(32, dtype=np.float32)
    for kind in ("OrtValue", "Chunk"):
        found = model.run("", {"x": x}, ("y", "z"))
        assert owner(found["y"]) == "Chunk"
        assert (owner(found["z"]) == "Chunk") == (kind == "Chunk")
        np.testing.assert_array_equal(found["y"], x)
        np.testing.assert_array_equal(found["z"], -x)


def test_a_large_constant_is_copied_into_the_chunk(tmp_path: Path) -> None:
    weight = np.arange(64, dtype=np.float32)
    model = bound(
        tmp_path,
        [("Relu", ["x"], ["y"]), ("Add", ["w", "w"], ["twice"])],
        [tensor("x", FLOAT)],
        [tensor("y", FLOAT), tensor("w", FLOAT, (64,)), tensor("twice", FLOAT, (64,))],
        constants={"w": weight},
    )
    for _ in range(2):
        found = model.run("", {"x": weight}, ("y", "w", "twice"))
        np.testing.assert_array_equal(found["w"], weight)
        np.testing.assert_array_equal(found["twice"], weight * 2)
        found["w"][:] = found["twice"][:] = -1


def test_a_failure_at_no_rows_says_that_there_are_none(tmp_path: Path) -> None:
    model: Any = engine.ENGINE.load(
        save(
            tmp_path,
            [("Reshape", ["x", "shape"], ["y"])],
            [tensor("x", FLOAT)],
            [tensor("y", FLOAT, (1, 3))],
            constants={"shape": np.array([1, 3])},
        ),
        options={},
    )
    for rows in (0, 2):
        with pytest.raises((RequestError, RuntimeError)) as caught:
            model.run("", {"x": np.zeros(rows, np.float32)}, ("y",))
        assert ("(the request has 0 rows)" in str(caught.value)) == (rows == 0)


def test_the_memory_is_written_by_the_model_and_not_copied_into(tmp_path: Path) -> None:
    model = relu(tmp_path)
    x = np.arange(100, dtype=np.float32)
    model.run("", {"x": x}, ("y",))
    seen: list[int] = []

    class Spy:
        def __init__(self, session: Any) -> None:
            self.session = session

        def io_binding(self) -> Any:
            return self.session.io_binding()

        def run_with_iobinding(self, binding: Any) -> None:
            self.session.run_with_iobinding(binding)
            seen.extend(value.data_ptr() for value in binding.get_outputs())

    model._binder._session = Spy(model._session)
    y = model.run("", {"x": x}, ("y",))["y"]
    assert seen == [y.ctypes.data]
    np.testing.assert_array_equal(y, x)


def test_other_shapes_are_learned_one_by_one_and_the_oldest_forgotten(tmp_path: Path) -> None:
    model = relu(tmp_path)
    for n in range(20, 40):
        x = np.arange(n, dtype=np.float32)
        assert owner(model.run("", {"x": x}, ("y",))["y"]) == "PyCapsule"
        y = model.run("", {"x": x}, ("y",))["y"]
        assert owner(y) == "Chunk"
        np.testing.assert_array_equal(y, x)
    assert len(model._binder._known) == 8


def test_large_and_small_outputs_in_one_run(tmp_path: Path) -> None:
    model = bound(
        tmp_path,
        [("Relu", ["x"], ["y"]), ("Shape", ["x"], ["n"]), ("Greater", ["x", "y"], ["b"])],
        [tensor("x", FLOAT)],
        [tensor("n", ELEMENT.INT64, None), tensor("y", FLOAT), tensor("b", ELEMENT.BOOL)],
    )
    x = np.arange(32, dtype=np.float32)
    for _ in range(2):
        found = model.run("", {"x": x}, ("n", "y", "b"))
    assert owner(found["y"]) == "Chunk"
    assert owner(found["n"]) != "Chunk"
    assert found["n"].tolist() == [32]
    assert found["b"].dtype == bool and not found["b"].any()
    model.close()
    gc.collect()
    np.testing.assert_array_equal(found["y"], x)
    assert found["n"].tolist() == [32]


def test_an_output_whose_shape_depends_on_values_is_right_and_no_longer_bound(tmp_path: Path) -> None:
    model = bound(
        tmp_path,
        [("NonZero", ["x"], ["i"]), ("Relu", ["x"], ["y"])],
        [tensor("x", FLOAT)],
        [tensor("i", ELEMENT.INT64, (1, "k")), tensor("y", FLOAT, ("m",))],
    )
    x = np.ones(32, np.float32)
    for _ in range(2):
        assert model.run("", {"x": x}, ("i", "y"))["i"].shape == (1, 32)
    x[:7] = 0
    found = model.run("", {"x": x}, ("i", "y"))
    assert found["i"].tolist() == [list(range(7, 32))]
    np.testing.assert_array_equal(found["y"], x)
    again = model.run("", {"x": np.zeros(32, np.float32)}, ("i", "y"))
    assert again["i"].shape == (1, 0)
    assert model._binder._changing == {"i"}
    assert owner(again["y"]) == "Chunk"


def test_a_bad_request_does_not_end_the_binding(tmp_path: Path) -> None:
    model = bound(
        tmp_path,
        [("Gather", ["x", "i"], ["y"])],
        [tensor("x", FLOAT), tensor("i", ELEMENT.INT64)],
        [tensor("y", FLOAT, None)],
    )
    x, good = np.arange(100, dtype=np.float32), np.arange(50)
    for _ in range(2):
        model.run("", {"x": x, "i": good}, ("y",))
    with pytest.raises(RequestError, match="out of data bounds, idx=100") as caught:
        model.run("", {"x": x, "i": good + 100}, ("y",))
    assert caught.value.code == 400
    y = model.run("", {"x": x, "i": good}, ("y",))["y"]
    assert owner(y) == "Chunk"
    np.testing.assert_array_equal(y, x[:50])


def test_one_output_asked_for_twice(tmp_path: Path) -> None:
    model = relu(tmp_path)
    x = np.arange(32, dtype=np.float32)
    for _ in range(3):
        np.testing.assert_array_equal(model.run("", {"x": x}, ("y", "y"))["y"], x)


def test_threads_get_memory_of_their_own(tmp_path: Path) -> None:
    model = relu(tmp_path)
    wrong: list[int] = []

    def work(number: int) -> None:
        for step in range(200):
            x = np.full(64 + step % 3, number, np.float32)
            if not np.array_equal(model.run("", {"x": x}, ("y",))["y"], x):
                wrong.append(step)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_way_over_a_device_gives_the_same(tmp_path: Path) -> None:
    """Inputs sent to the device and outputs fetched from it, with the CPU as the device."""
    model = relu(tmp_path)
    binder = Binder(model._session, model._dtypes, large=SMALL)
    binder._remote = ("cpu", 0)
    x = np.arange(-50, 50, dtype=np.float32)
    for kind in ("ndarray", "Chunk"):
        found = binder.run({"x": x}, ("y",))["y"]
        np.testing.assert_array_equal(found, np.maximum(x, 0))
        assert (owner(found) == "Chunk") == (kind == "Chunk")


@pytest.mark.gpu
def test_on_cuda_results_are_those_of_the_cpu(tmp_path: Path) -> None:
    if "CUDAExecutionProvider" not in engine.available_providers():
        pytest.skip("this ONNX Runtime has no CUDA")
    path = save(
        tmp_path,
        [("MatMul", ["x", "w"], ["h"]), ("Relu", ["h"], ["y"]), ("Shape", ["x"], ["n"])],
        [tensor("x", FLOAT, ("n", 256))],
        [tensor("y", FLOAT, ("n", 512)), tensor("n", ELEMENT.INT64, (2,))],
        constants={"w": np.random.default_rng(1).normal(size=(256, 512)).astype(np.float32)},
    )
    here, there = (engine.ENGINE.load(path, options={"device": device}) for device in ("cpu", "cuda:0"))
    assert there.device == "cuda:0"
    assert there.engine.endswith("(CUDA)")
    x = np.random.default_rng(2).normal(size=(LARGE // 2048, 256)).astype(np.float32)
    expected = here.run("", {"x": x}, ("y", "n"))
    for _ in range(3):
        found = there.run("", {"x": x}, ("y", "n"))
        np.testing.assert_allclose(found["y"], expected["y"], rtol=2e-2, atol=2e-2)  # TF32
        assert found["n"].tolist() == expected["n"].tolist()
    assert owner(found["y"]) == "Chunk"
