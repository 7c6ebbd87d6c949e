"""TensorFlow: signatures and names of graphs and SavedModels, every dtype, options, and errors of requests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tf_models as models
from tf_models import call, load, save_graph, saved

from tensorwire import Request, TensorSpec
from tensorwire.servers.check import Check
from tensorwire.servers.model import ModelError, RequestError

pytestmark = pytest.mark.skipif(not models.HERE, reason="these models run on TensorFlow")

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def two_ends(tf: Any) -> None:
    a = tf.placeholder(tf.float32, [None, 3], name="a")
    b = tf.placeholder(tf.float32, [1, 3], name="scope/b")
    middle = tf.add(a, b, name="middle")
    tf.nn.relu(middle, name="end/relu")
    tf.reduce_sum(middle, 1, name="end/sum")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_graph(tmp_path_factory.mktemp("graph") / "graph.pb", two_ends)


def test_a_graphs_ends_are_its_outputs(graph: Path) -> None:
    model = load(graph)
    signature = model.signatures["serving_default"]
    assert signature.inputs == (TensorSpec("a:0", np.float32, (-1, 3)), TensorSpec("scope/b:0", np.float32, (1, 3)))
    assert signature.outputs == (
        TensorSpec("end/relu:0", np.float32, (-1, 3)),
        TensorSpec("end/sum:0", np.float32, (-1,)),
    )
    found = model.run("", {"a:0": X, "scope/b:0": -np.ones((1, 3), np.float32)}, ())
    np.testing.assert_array_equal(found["end/relu:0"], np.maximum(X - 1, 0))
    np.testing.assert_array_equal(found["end/sum:0"], (X - 1).sum(1))
    assert model.facts["format"] == "TensorFlow graph"
    assert model.facts["operations"] == "6"
    assert model.engine.startswith(f"TensorFlow {models.tensorflow().__version__} (CPU build, oneDNN ")
    assert model.device == "cpu"


def test_names_go_with_and_without_the_number_of_the_output(graph: Path) -> None:
    model = load(graph, inputs="a,scope/b:0", outputs=["middle", "end/sum:0"])
    signature = model.signatures["serving_default"]
    assert [spec.name for spec in signature.outputs] == ["middle:0", "end/sum:0"]
    check = Check(signature)
    ones = np.ones((1, 3), np.float32)
    for names in (("a", "scope/b"), ("scope/b:0", "a")):
        request = Request(dict(zip(names, (X, ones) if names[0] == "a" else (ones, X), strict=True)), ["middle"])
        feeds, asked = check.feeds(request.inputs), check.asked(request.outputs)
        assert (list(feeds), asked) == (["a:0", "scope/b:0"], ("middle:0",))
        np.testing.assert_array_equal(model.run("", feeds, asked)["middle:0"], X + 1)
    with pytest.raises(RequestError, match="input 'a:0' came twice"):
        check.feeds(Request({"a": X, "a:0": X}).inputs)
    with pytest.raises(RequestError, match=r"unknown output 'middle:1': the model has 'middle:0', 'end/sum:0'"):
        check.asked(("middle:1",))
    with pytest.raises(RequestError, match="unknown input 'b'"):
        check.feeds(Request({"a": X, "b": ones}).inputs)


def test_an_inner_tensor_can_be_an_input(graph: Path) -> None:
    model = load(graph, inputs="middle", outputs="end/sum")
    np.testing.assert_array_equal(call(model, **{"middle:0": X})["end/sum:0"], X.sum(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": "nope"}, "option inputs: the graph has no tensor 'nope'"),
        ({"outputs": "end/sum:7"}, "option outputs: the graph has no tensor 'end/sum:7'"),
        ({"inputs": "a", "outputs": "middle"}, "need more inputs than a:0"),
        ({"threads": 1}, "the tensorflow engine has no option threads"),
        ({"tags": "serve"}, "has no option tags"),
        ({"device": "tpu"}, "option device is cpu, cuda or cuda:<number>, not 'tpu'"),
        ({"device": "cuda:9"}, "no device 'cuda:9': there is cpu"),
        ({"custom_ops": "/no/such/lib.so"}, "option custom_ops: no such file"),
    ],
)
def test_options_that_cannot_be_had(graph: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load(graph, **options)
    assert "\n" not in str(caught.value)


def test_a_library_that_is_none(graph: Path, tmp_path: Path) -> None:
    (tmp_path / "ops.so").write_bytes(b"\x7fELF no library")
    with pytest.raises(ModelError, match=r"ops\.so: no library of operations for TensorFlow 2\..*ops\.so"):
        load(graph, custom_ops=str(tmp_path / "ops.so"))


def test_xla_compiles_to_the_same_values(graph: Path) -> None:
    found = call(load(graph, xla=1, concurrency=2), **{"a:0": X, "scope/b:0": X[:1]})
    np.testing.assert_allclose(found["end/sum:0"], (X + X[:1]).sum(1))


def test_threads_are_set_once_in_a_process(graph: Path) -> None:
    """In a process of its own, since TensorFlow cannot be told to forget them."""
    code = """
import sys
from pathlib import Path
from tensorwire.servers.engines.tf.engine import ENGINE
from tensorwire.servers.model import ModelError
import numpy as np
path = Path(sys.argv[1])
feeds = {"a:0": np.ones((2, 3), np.float32), "scope/b:0": np.ones((1, 3), np.float32)}
model = ENGINE.load(path, options={"intra_op_num_threads": 1, "inter_op_num_threads": 1})
assert model.run("", feeds, ())["end/sum:0"].tolist() == [6, 6]
import tensorflow as tf
assert tf.config.threading.get_intra_op_parallelism_threads() == 1
ENGINE.load(path, options={"intra_op_num_threads": 1})
try:
    ENGINE.load(path, options={"intra_op_num_threads": 2})
except ModelError as error:
    print(error)
"""
    env = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(graph)], capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # nothing of what TensorFlow says when it starts
    assert "intra_op_num_threads is 2, but TensorFlow runs in this process with 1 already" in done.stdout


ON_A_GPU = """
import sys
from pathlib import Path
import numpy as np
from tensorwire.servers.engines.tf.engine import ENGINE
x = np.random.default_rng(1).random((5, 3), np.float32)
model = ENGINE.load(Path(sys.argv[1]), options={"device": "cuda:0"})
found = model.run("", {"a:0": x, "scope/b:0": x[:1]}, ())
np.testing.assert_allclose(found["end/sum:0"], (x + x[:1]).sum(1), rtol=1e-5)
model.close()
print(model.device, found["end/relu:0"].shape)
"""


@pytest.mark.gpu
def test_a_graph_runs_on_a_gpu(graph: Path) -> None:
    if not models.tensorflow().config.list_physical_devices("GPU"):
        pytest.skip("needs a GPU and a TensorFlow built for it")
    done = subprocess.run([sys.executable, "-c", ON_A_GPU, str(graph)], capture_output=True, text=True, check=False)
    assert done.stdout == "cuda:0 (5, 3)\n", done.stderr


def test_all_signatures_of_a_saved_model_have_their_own_names(tmp_path: Path) -> None:
    tf = models.tensorflow()
    weight = tf.Variable([1.0, 2.0, 3.0])

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "z"), tf.TensorSpec([], tf.float32, "a")])
    def scale(z: Any, a: Any) -> Any:
        return {"scaled": z * weight * a, "also": z}

    @tf.function(input_signature=[tf.TensorSpec(None, tf.string, "text")])
    def length(text: Any) -> Any:
        return {"n": tf.strings.length(text)}

    path = saved(tmp_path / "m", variables=weight, serving_default=scale, length=length)
    model = load(path)
    assert model.name == "m"
    assert set(model.signatures) == {"serving_default", "length"}
    assert model.default_signature == "serving_default"
    declared = model.signatures["serving_default"]
    assert {spec.name: spec.shape for spec in declared.inputs} == {"z": (-1, 3), "a": ()}
    assert [spec.name for spec in declared.outputs] == ["also", "scaled"]
    assert model.signatures["length"].inputs == (TensorSpec("text", object, ()),)
    found = call(model, z=X, a=np.array(2, np.float32))
    np.testing.assert_array_equal(found["scaled"], X * [2, 4, 6])
    np.testing.assert_array_equal(found["also"], X)
    assert call(model, "length", text=np.array([[b"ab", b"a\0\0"]], object))["n"].tolist() == [[2, 3]]
    assert model.facts["format"] == "SavedModel of TensorFlow 2"
    assert model.facts["tags"] == "serve"
    assert model.facts["written by"] == f"TensorFlow {tf.__version__}"
    only = saved(tmp_path / "only", length=length)
    assert load(only / "saved_model.pb").default_signature == "length"


def test_one_of_several_graphs_is_chosen_by_its_tags(tmp_path: Path) -> None:
    tf = models.tensorflow().compat.v1
    builder = tf.saved_model.Builder(str(tmp_path / "m"))
    for tags, factor in ((["serve"], 2.0), (["serve", "gpu"], 3.0)):
        with models.tensorflow().Graph().as_default(), tf.Session() as session:
            x = tf.placeholder(tf.float32, [None], name="x")
            scale = tf.get_variable("scale", initializer=factor, use_resource=True)
            signature = tf.saved_model.predict_signature_def({"x": x}, {"y": x * scale})
            session.run(tf.global_variables_initializer())
            add = builder.add_meta_graph_and_variables if tags == ["serve"] else builder.add_meta_graph
            add(*([session] if tags == ["serve"] else []), tags, signature_def_map={"serving_default": signature})
    builder.save()
    one = np.ones(1, np.float32)
    for options in ({}, {"tags": "serve"}, {"tags": "gpu,serve"}):
        model = load(tmp_path / "m", **options)
        assert call(model, x=one)["y"].tolist() == [2.0]
        assert model.facts["format"] == "SavedModel of TensorFlow 1"
    with pytest.raises(ModelError, match="no graph with the tags train: there are serve; gpu, serve"):
        load(tmp_path / "m", tags="train")


def test_two_loaded_models_keep_their_own_tables(tmp_path: Path) -> None:
    tf = models.tensorflow().compat.v1
    paths = []
    for name, number in (("one", 1), ("two", 2)):
        builder = tf.saved_model.Builder(str(tmp_path / name))
        with models.tensorflow().Graph().as_default(), tf.Session() as session:
            keys = tf.placeholder(tf.string, [None], name="keys")
            entries = tf.lookup.KeyValueTensorInitializer(["k"], [number], tf.string, tf.int64)
            table = models.tensorflow().lookup.StaticHashTable(entries, -1, name="table")
            signature = tf.saved_model.predict_signature_def({"keys": keys}, {"value": table.lookup(keys)})
            builder.add_meta_graph_and_variables(
                session, ["serve"], {"serving_default": signature}, main_op=tf.tables_initializer()
            )
        builder.save()
        paths.append(tmp_path / name)
    loaded = [load(path) for path in paths]
    keys = np.array([b"k", b"unknown"], object)
    assert [call(model, keys=keys)["value"].tolist() for model in loaded] == [[1, -1], [2, -1]]


DTYPES = [
    *("float16", "float32", "float64", "bool", "complex64", "complex128", "bfloat16"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
]


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A graph that sends a tensor of every dtype back, whatever its shape."""

    def build(tf: Any) -> None:
        for name in (*DTYPES, "string"):
            tf.identity(tf.placeholder(getattr(tf, name), None, name=f"in_{name}"), name=f"out_{name}")

    return load(save_graph(tmp_path_factory.mktemp("identities") / "m.pb", build))


def same(model: Any, name: str, x: Any) -> Any:
    """The tensor of that dtype as it comes back; all others are scalars."""
    feeds = {f"in_{other}:0": np.zeros((), dtype_of(other)) for other in DTYPES}
    feeds["in_string:0"] = np.array(b"", object)
    return model.run("", {**feeds, f"in_{name}:0": x}, ())[f"out_{name}:0"]


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (), (1,)])
def test_every_dtype_survives(identities: Any, name: str, shape: tuple[int, ...]) -> None:
    x = np.ones(shape, dtype_of(name))
    y = same(identities, name, x)
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
    np.testing.assert_array_equal(y, x)
    declared = {spec.name: spec.dtype for spec in identities.signatures["serving_default"].inputs}
    assert declared[f"in_{name}:0"] == x.dtype


@pytest.mark.parametrize(
    "x",
    [
        np.array([b"a", "é".encode(), b"nul\0in\0", b"", b"\xff\xfe"], object),
        np.array(["a", "é", "nul\0in\0", ""], object),
        np.array([[b"a"], [b"b\0"]], object),
        np.array(b"scalar\0", object),
        np.array([], object).reshape(0, 4),
        np.array(["ab", "c"]),
    ],
    ids=["bytes", "str", "matrix", "scalar", "no rows", "fixed width"],
)
def test_text_comes_back_as_bytes_with_its_nuls(identities: Any, x: Any) -> None:
    y = same(identities, "string", x)
    assert (y.dtype, y.shape) == (np.dtype(object), x.shape)
    assert y.ravel().tolist() == [item.encode() if isinstance(item, str) else item for item in x.ravel()]


def test_what_is_no_text_is_refused(identities: Any) -> None:
    with pytest.raises(RequestError, match="input 'in_string:0': not text") as caught:
        same(identities, "string", np.array([b"a", 1], object))
    assert caught.value.code == 400


def test_what_the_graph_cannot_take_is_a_bad_request_on_one_line(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        a, b = (tf.placeholder(tf.float32, None, name=name) for name in "ab")
        tf.matmul(a, b, name="y")

    model = load(save_graph(tmp_path / "m.pb", build))
    with pytest.raises(RequestError) as caught:
        call(model, **{"a:0": X, "b:0": X})
    assert caught.value.code == 400
    assert caught.value.message.startswith("Matrix size-incompatible: In[0]: [2,3], In[1]: [2,3]")
    assert not {"\n", "{{"} & set(caught.value.message)
    assert call(model, **{"a:0": X, "b:0": X.T})["y:0"].shape == (2, 2)


def test_a_failure_at_no_rows_says_that_there_are_none(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        tf.reshape(tf.placeholder(tf.float32, [None, 3], name="x"), [-1, 2], name="pairs")
        tf.reshape(tf.placeholder(tf.float32, [None, 3], name="z"), [2, 3], name="two")

    model = load(save_graph(tmp_path / "m.pb", build))
    for rows in (0, 1):
        with pytest.raises(RequestError) as caught:
            call(model, **{"x:0": X, "z:0": X[:rows]})
        assert caught.value.code == 400
        assert caught.value.message.startswith("Input to reshape is a tensor with")
        assert caught.value.message.endswith(" (the request has 0 rows)") == (rows == 0)


@pytest.mark.parametrize("x", [X[0], X[:, :2], X[None], X.astype(np.float64), np.zeros((), np.float32)])
def test_what_was_not_declared_never_reaches_tensorflow(graph: Path, x: Any) -> None:
    """Some operations end the process over a tensor of another rank than they were built for."""
    with pytest.raises(RequestError, match=r"input 'a:0': shape .* came, expected \[-1, 3\] float32") as caught:
        call(load(graph), **{"a:0": x, "scope/b:0": X[:1]})
    assert caught.value.code == 400


def test_a_declared_scalar_takes_no_other_shape(tmp_path: Path) -> None:
    path = save_graph(tmp_path / "m.pb", lambda tf: tf.negative(tf.placeholder(tf.float32, [], name="x"), name="y"))
    model = load(path)
    assert call(model, **{"x:0": np.array(2, np.float32)})["y:0"] == -2
    with pytest.raises(RequestError, match=r"shape \[2, 3\] float32 came, expected \[\] float32"):
        call(model, **{"x:0": X})


def test_a_failing_operation_is_the_models_failure(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        name = tf.placeholder(tf.string, [], name="name")
        tf.io.read_file(name, name="data")

    model = load(save_graph(tmp_path / "m.pb", build))
    with pytest.raises(RuntimeError, match="No such file or directory"):
        call(model, **{"name:0": np.array(b"/no/such/file", object)})


def test_a_closed_model_refuses(graph: Path) -> None:
    model = load(graph)
    found = call(model, **{"a:0": X, "scope/b:0": X[:1]})
    model.close()
    model.close()
    np.testing.assert_array_equal(found["end/sum:0"], (X + X[:1]).sum(1))
    with pytest.raises(RequestError, match="model 'graph' is closed") as caught:
        call(model, **{"a:0": X, "scope/b:0": X[:1]})
    assert caught.value.code == 503
