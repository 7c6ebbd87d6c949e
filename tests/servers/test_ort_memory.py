"""ONNX Runtime: whose memory the tensors are in, and how long it lives."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="these models run on onnxruntime")
pytest.importorskip("onnx", reason="these models are made with onnx")

from onnx import helper
from onnx_models import ELEMENT, save, tensor

from tensorwire.servers.engines import ort as engine
from tensorwire.servers.model import Model

FLOAT = ELEMENT.FLOAT
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def load(path: Path, **options: Any) -> Model:
    return engine.ENGINE.load(path, options=options)


def relu(folder: Path, **fields: Any) -> Path:
    return save(folder, [("Relu", ["x"], ["y"])], [tensor("x", FLOAT)], [tensor("y", FLOAT)], **fields)


class Spy:
    """A session that notes the memory of the OrtValues that go in and come out."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.addresses: list[int] = []

    def run_with_ort_values(self, outputs: Any, feeds: Any) -> Any:
        found = self.session.run_with_ort_values(outputs, feeds)
        self.addresses = [value.data_ptr() for value in (*feeds.values(), *found)]
        return found


@pytest.mark.parametrize(
    ("dtype", "element"),
    [
        (ml_dtypes.bfloat16, ELEMENT.BFLOAT16),
        (ml_dtypes.float8_e4m3fn, ELEMENT.FLOAT8E4M3FN),
        (ml_dtypes.float8_e5m2, ELEMENT.FLOAT8E5M2),
    ],
)
def test_dtypes_that_numpy_has_not_are_views_too(tmp_path: Path, dtype: Any, element: int) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=FLOAT),
        helper.make_node("Neg", ["wide"], ["minus"]),
        helper.make_node("Cast", ["minus"], ["y"], to=element),
    ]
    path = save(
        tmp_path, nodes, [tensor("x", element)], [tensor("y", element), tensor("minus", FLOAT)], opset=21
    )
    model: Any = load(path)
    spy = model._session = Spy(model._session)
    x = np.arange(1, 5).astype(dtype)
    found = model.run("", {"x": x}, ("y", "minus"))
    assert [a.ctypes.data for a in (x, found["y"], found["minus"])] == spy.addresses
    assert found["y"].dtype == x.dtype
    model.close()
    del model, spy
    gc.collect()
    np.testing.assert_array_equal(found["y"].astype(np.float32), -x.astype(np.float32))
    np.testing.assert_array_equal(found["minus"], -x.astype(np.float32))
    assert load(path).run("", {"x": x[:0]}, ("y",))["y"].shape == (0,)
    shifted = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(dtype)
    np.testing.assert_array_equal(load(path).run("", {"x": shifted}, ("minus",))["minus"], found["minus"])


def test_an_input_is_not_read_before_an_operator_reads_it(tmp_path: Path) -> None:
    """Shape needs no data: it works on memory that may not be read, unless somebody copies the input."""
    path = save(tmp_path, [("Shape", ["x"], ["y"])], [tensor("x", FLOAT)], [tensor("y", ELEMENT.INT64, (1,))])
    script = """
import mmap, sys
import numpy as np
from tensorwire.servers.repository.local import open_model
memory = mmap.mmap(-1, 1 << 22, prot=0)
x = np.frombuffer(memory, np.float32)
y = open_model(sys.argv[1]).run("", {"x": x}, ("y",))["y"]
assert y.tolist() == [1 << 20], y
"""
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)


def test_an_output_is_a_view_that_outlives_the_model(tmp_path: Path) -> None:
    model: Any = load(relu(tmp_path))
    x = np.arange(100_000, dtype=np.float32)
    before = sys.getrefcount(x)
    first = model.run("", {"x": x}, ("y",))["y"]
    assert sys.getrefcount(x) == before
    assert not first.flags.owndata
    assert type(first.base).__name__ == "PyCapsule"  # ONNX Runtime's, which owns the tensor
    others = [model.run("", {"x": x + n}, ("y",))["y"] for n in range(1, 4)]
    assert not any(np.shares_memory(first, other) for other in others)
    model.close()
    del model
    gc.collect()
    np.testing.assert_array_equal(first, x)
    for n, other in enumerate(others, 1):
        np.testing.assert_array_equal(other, x + n)


@pytest.mark.parametrize(
    "x",
    [
        np.frombuffer(b"\0" + X.tobytes(), np.uint8)[1:].view(np.float32),
        np.repeat(X.ravel(), 2)[::2],
        X.ravel().astype(">f4"),
        np.frombuffer(X.tobytes(), np.float32),
    ],
    ids=["misaligned", "strided", "byte-swapped", "read-only"],
)
def test_arrays_of_every_layout_are_taken(tmp_path: Path, x: Any) -> None:
    before = x.tobytes()
    y = load(relu(tmp_path)).run("", {"x": x}, ("y",))["y"]
    np.testing.assert_array_equal(y, X.ravel())
    assert x.tobytes() == before


def test_a_graph_that_passes_an_input_through_gives_the_requests_own_array(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [("Relu", ["x"], ["y"])],
        [tensor("x", FLOAT, ("n", 3))],
        [tensor("x", FLOAT, ("n", 3)), tensor("y", FLOAT, ("n", 3))],
    )
    model = load(path)
    found = model.run("", {"x": X}, ("x", "y"))
    assert found["x"] is X
    assert not np.shares_memory(found["y"], X)
    assert model.run("", {"x": X}, ("x",))["x"] is X


def test_constants_in_the_output_are_not_shared_between_requests(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [("Relu", ["x"], ["y"]), ("Add", ["w", "w"], ["folded"]), ("Identity", ["y"], ["same"])],
        [tensor("x", FLOAT)],
        [tensor(name, FLOAT, None) for name in ("y", "w", "folded", "same")],
        constants={"w": np.arange(4, dtype=np.float32)},
    )
    model = load(path)
    names = ("y", "w", "folded", "same")
    first, second = (model.run("", {"x": X[0]}, names) for _ in range(2))
    for name in names:
        assert not np.shares_memory(first[name], second[name])
        first[name][...] = -1
    third = model.run("", {"x": X[0]}, names)
    assert third["w"].tolist() == second["w"].tolist() == [0, 1, 2, 3]
    assert third["folded"].tolist() == second["folded"].tolist() == [0, 2, 4, 6]
    assert third["same"].tolist() == [0, 1, 2]
