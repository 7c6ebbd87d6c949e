"""TensorFlow: whose memory the tensors are in, how long it lives, and that nobody writes to a request's."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tf_models as models
from tf_models import aligned, call, load, save_graph

from tensorwire import Request
from tensorwire._decode import decode
from tensorwire._encode import encode
from tensorwire._memory import Chunk
from tensorwire.servers.engines.tf.tensors import feed, take

pytestmark = pytest.mark.skipif(not models.HERE, reason="these models run on TensorFlow")


def address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Sends x back as it is, and as an operation that may work in place leaves it."""

    def build(tf: Any) -> None:
        x = tf.placeholder(tf.float32, [None, 4], name="x")
        tf.identity(x, name="same")
        tf.nn.relu(x, name="relu")

    return load(save_graph(tmp_path_factory.mktemp("model") / "m.pb", build), concurrency=4)


DTYPES = ["float16", "float32", "float64", "bool", "complex64", "complex128", "int8", "uint8", "int64", "uint16"]


@pytest.mark.parametrize("name", [*DTYPES, "bfloat16"])
@pytest.mark.parametrize("shape", [(3, 4), ()])
def test_neither_way_is_a_copy(name: str, shape: tuple[int, ...]) -> None:
    tf = models.tensorflow()
    kind = tf.dtypes.as_dtype(name)
    x = aligned(shape, ml_dtypes.bfloat16 if name == "bfloat16" else name)
    tensor = feed(tf, "x", kind)(x)
    back = take(tf, kind)(tensor)
    assert (tensor.dtype, back.dtype, back.shape) == (kind, x.dtype, x.shape)
    assert address(back) == address(x)
    assert not back.flags.writeable


@pytest.mark.parametrize("offset", [4, 16, 32])
def test_an_array_that_lies_badly_is_copied_once_to_where_it_may_lie(offset: int) -> None:
    tf = models.tensorflow()
    x = aligned((5, 4), np.float32, offset)
    x[:] = np.arange(20).reshape(5, 4)
    read_only = aligned((5, 4), np.float32)
    read_only.flags.writeable = False
    swapped = x.astype(">f4")
    for array in (x, read_only, x[::2], x.T, swapped, x[:0]):
        tensor = feed(tf, "x", tf.float32)(array)
        back = take(tf, tf.float32)(tensor)
        assert address(back) % 64 == 0
        assert not np.shares_memory(back, array)
        np.testing.assert_array_equal(back, array)


def test_a_message_goes_through_without_a_copy(model: Any) -> None:
    """As in the server: the body is in a Chunk, the arrays are views of it, and so is what the graph passes on."""
    x = np.linspace(-1, 1, 400, dtype=np.float32).reshape(100, 4)
    message = bytes(encode(Request({"x:0": x}, ["same:0", "relu:0"])))
    chunk = Chunk(len(message))
    memoryview(chunk)[:] = message
    request = decode(chunk, Request)
    found = model.run("", {"x:0": request.inputs["x:0"]}, request.outputs)
    assert address(found["same:0"]) == address(request.inputs["x:0"])
    np.testing.assert_array_equal(found["relu:0"], np.maximum(x, 0))
    assert bytes(chunk) == message  # nothing was written over the request


def test_an_input_lives_as_long_as_a_result_that_is_a_view_of_it(model: Any) -> None:
    x = aligned((1000, 4), np.float32)
    x[:] = 7
    block = x.base
    assert block is not None
    start = address(x)
    before = sys.getrefcount(block)
    found = call(model, **{"x:0": x})
    same = found["same:0"]
    del x, found
    gc.collect()
    assert sys.getrefcount(block) == before  # x is gone, the result refers to its memory
    assert address(same) == start
    assert (same == 7).all()
    del same
    gc.collect()
    assert sys.getrefcount(block) == before - 1


def test_an_input_is_free_when_the_call_is_over(model: Any) -> None:
    x = aligned((1000, 4), np.float32)
    block = x.base
    before = sys.getrefcount(block)
    for _ in range(20):
        relu = call(model, **{"x:0": x})["relu:0"]
        x[:] += 1  # the owner's again: what was returned must not change
    del x
    gc.collect()
    assert sys.getrefcount(block) == before - 1
    assert (relu == 19).all()


def test_results_outlive_the_model(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        tf.multiply(tf.placeholder(tf.float32, [None], name="x"), 2.0, name="y")

    model = load(save_graph(tmp_path / "m.pb", build))
    found = [call(model, **{"x:0": np.full(1000, n, np.float32)})["y:0"] for n in range(5)]
    model.close()
    del model
    gc.collect()
    assert [row.tolist() == [2.0 * n] * 1000 for n, row in enumerate(found)] == [True] * 5


def test_a_weight_that_is_returned_cannot_be_written_to(tmp_path: Path) -> None:
    tf = models.tensorflow()
    weight = tf.Variable(np.ones(100, np.float32))

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, "x")])
    def serving_default(x: Any) -> Any:
        return {"weight": weight.read_value(), "x": x}

    model = load(models.saved(tmp_path / "m", variables=weight, serving_default=serving_default))
    found = call(model, x=np.float32(1)[...])["weight"]
    with pytest.raises(ValueError, match="read-only"):
        found[:] = 0


def test_many_threads_get_their_own_answers(model: Any) -> None:
    wrong: list[int] = []

    def ask(number: int) -> None:
        for rows in (1, 7, 64):
            x = aligned((rows, 4), np.float32)
            x[:] = number
            for _ in range(30):
                found = call(model, **{"x:0": x})
                if not ((found["same:0"] == number).all() and (found["relu:0"] == number).all()):
                    wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
