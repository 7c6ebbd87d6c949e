"""TensorFlow's formats: Keras files, TFLite, and one clear line for every file that cannot be served."""

from __future__ import annotations

import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tf_models as models
from processes import Start, first_line
from tf_models import call, load, save_graph, saved

import tensorwire as tw
from tensorwire import TensorSpec
from tensorwire.servers.engines.registry import find_engine
from tensorwire.servers.engines.tf.engine import ENGINE
from tensorwire.servers.model import ModelError, RequestError

pytestmark = pytest.mark.skipif(not models.HERE, reason="these models run on TensorFlow")

X = np.arange(12, dtype=np.float32).reshape(3, 4)


def keras() -> Any:
    models.tensorflow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras

        return keras


def write(model: Any, path: Path) -> Path:
    """Save a Keras model, whose own code uses what numpy has deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
    return path


def failure(path: Path, **options: Any) -> str:
    """The one line that names the file."""
    with pytest.raises(ModelError) as caught:
        load(path, **options)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_keras_model_with_several_inputs(tmp_path: Path, suffix: str) -> None:
    k = keras()
    wide, deep = k.Input((4,), name="wide"), k.Input((2,), name="deep", dtype="int32")
    both = k.layers.Concatenate()([wide, k.layers.Rescaling(0.5)(deep)])
    outputs = [k.layers.Dense(3, name="classes", activation="softmax")(both), k.layers.Dense(1, name="value")(both)]
    made = k.Model([wide, deep], outputs)
    model = load(write(made, tmp_path / f"m{suffix}"))
    signature = model.signatures["serving_default"]
    assert signature.inputs == (TensorSpec("wide", np.float32, (-1, 4)), TensorSpec("deep", np.int32, (-1, 2)))
    assert signature.outputs == (TensorSpec("classes", np.float32, (-1, 3)), TensorSpec("value", np.float32, (-1, 1)))
    ints = np.arange(6, dtype=np.int32).reshape(3, 2)
    found = call(model, wide=X, deep=ints)
    classes, value = made([X, ints], training=False)
    np.testing.assert_allclose(found["classes"], classes.numpy(), rtol=1e-5)
    np.testing.assert_allclose(found["value"], value.numpy(), rtol=1e-5)
    assert model.facts["written by"] == f"Keras {k.__version__}"
    assert model.facts["weights"] == f"{made.count_params():,}"


def test_keras_models_of_one_input_and_of_dicts(tmp_path: Path) -> None:
    k = keras()
    one = k.Sequential([k.Input((4,), name="x"), k.layers.Dropout(0.5), k.layers.Dense(2, name="y")])
    model = load(write(one, tmp_path / "one.keras"))
    np.testing.assert_allclose(call(model, x=X)["y"], one(X, training=False).numpy(), rtol=1e-5)
    assert call(model, x=X[:0])["y"].shape == (0, 2)
    b, a = k.Input((4,), name="b"), k.Input((4,), name="a")
    both = k.Model({"b": b, "a": a}, {"sum": k.layers.Add()([a, b]), "less": k.layers.Subtract()([a, b])})
    found = call(load(write(both, tmp_path / "dict.keras")), a=X, b=X * 3)
    assert set(found) == {"sum", "less"}
    np.testing.assert_array_equal(found["less"], X * -2)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_in_a_keras_file_is_not_run_unasked(tmp_path: Path, suffix: str) -> None:
    k = keras()
    path = tmp_path / f"m{suffix}"
    write(k.Sequential([k.Input((4,), name="x"), k.layers.Lambda(lambda x: x * 2, name="y")]), path)
    assert "it has a Lambda layer, which runs code from the file; if you trust its maker: --allow-pickle" in failure(
        path
    )
    np.testing.assert_array_equal(call(load(path, allow_pickle=True), x=X)["y"], X * 2)


def test_keras_files_that_cannot_be_served(tmp_path: Path) -> None:
    k = keras()
    made = k.Sequential([k.Input((4,)), k.layers.Dense(2)])
    write(made, tmp_path / "good.keras")
    write(made, tmp_path / "good.h5")
    for name in ("good.keras", "good.h5"):
        data = (tmp_path / name).read_bytes()
        cut = tmp_path / f"cut{Path(name).suffix}"
        cut.write_bytes(data[: len(data) // 2])
        assert "not a Keras model, or cut short" in failure(cut)
        cut.write_bytes(b"")
        assert "not a Keras model, or cut short" in failure(cut)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.save_weights(tmp_path / "only.weights.h5")
    assert "weights alone" in failure(tmp_path / "only.weights.h5")
    with zipfile.ZipFile(tmp_path / "good.keras") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["config.json"] = files["config.json"].replace(b'"Dense"', b'"MyOwnLayer"')
    with zipfile.ZipFile(tmp_path / "own.keras", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    text = failure(tmp_path / "own.keras")
    assert f"Keras {k.__version__} cannot load it (written by Keras {k.__version__}): " in text
    assert "MyOwnLayer" in text
    write(k.Sequential([k.layers.Dense(2)]), tmp_path / "unbuilt.keras")
    assert "does not say what its inputs are" in failure(tmp_path / "unbuilt.keras")


def tflite(path: Path, *signatures: Any, **functions: Any) -> Path:
    tf = models.tensorflow()
    module = tf.Module()
    found = {name: function.get_concrete_function() for name, function in functions.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if functions:
            tf.saved_model.save(module, str(path.with_suffix("")), signatures=functions)
            converter = tf.lite.TFLiteConverter.from_saved_model(str(path.with_suffix("")), signature_keys=list(found))
        else:
            converter = tf.lite.TFLiteConverter.from_concrete_functions([signatures[0].get_concrete_function()])
        path.write_bytes(converter.convert())
    return path


def test_tflite_with_signatures_and_any_number_of_rows(tmp_path: Path) -> None:
    tf = models.tensorflow()
    rows = tf.TensorSpec([None, 4], tf.float32, "x")
    double = tf.function(lambda x: {"y": x * 2 + 1}, input_signature=[rows])
    total = tf.function(lambda x: {"sum": tf.reduce_sum(x, 1)}, input_signature=[rows])
    model = load(tflite(tmp_path / "m.tflite", double=double, total=total), concurrency=2, intra_op_num_threads=1)
    assert set(model.signatures) == {"double", "total"}
    assert model.signatures["double"].inputs == (TensorSpec("x", np.float32, (-1, 4)),)
    assert model.concurrency == 2
    for count in (1, 3, 2):
        x = np.arange(count * 4, dtype=np.float32).reshape(count, 4)
        first, second = call(model, "double", x=x)["y"], call(model, "double", x=x + 1)["y"]
        np.testing.assert_array_equal(first, x * 2 + 1)  # still, after the interpreter has run again
        np.testing.assert_array_equal(second, x * 2 + 3)
        np.testing.assert_array_equal(call(model, "total", x=x)["sum"], x.sum(1))
    with pytest.raises(RequestError) as caught:
        call(model, "double", x=X.astype(np.float64))
    assert caught.value.code == 400
    model.close()
    model.close()
    with pytest.raises(RequestError, match="is closed"):
        call(model, "double", x=X)


@pytest.mark.parametrize("named", [True, False], ids=["with signatures", "without"])
def test_tflite_without_rows_is_a_bad_request_and_the_server_goes_on(start: Start, tmp_path: Path, named: bool) -> None:
    """A convolution of nothing ends the process, so the server has one of its own."""
    tf = models.tensorflow()
    image = tf.TensorSpec([None, 8, 8, 3], tf.float32, "image")
    kernel = np.ones((3, 3, 3, 4), np.float32)
    convolve = tf.function(lambda image: {"y": tf.nn.conv2d(image, kernel, 1, "VALID")}, input_signature=[image])
    path = tmp_path / "m.tflite"
    tflite(path, serving_default=convolve) if named else tflite(path, convolve)
    assert load(path)._named is named
    server = start("-m", "tensorwire", "serve", str(path), "--listen", "127.0.0.1:0", "--no-access-log")
    with tw.Client(first_line(server).split()[2]) as client:
        name = client.metadata().inputs[0].name
        for _ in range(2):
            for shape in ((0, 8, 8, 3), (0, 8, 8, 3), (1, 8, 8, 3), (5, 8, 8, 3)):
                x = np.ones(shape, np.float32)
                if shape[0]:
                    (y,) = client.infer({name: x}).values()
                    assert y.shape == (shape[0], 6, 6, 4) and (y == 27).all()
                    continue
                with pytest.raises(tw.RemoteError, match=r"shape \[0, 8, 8, 3\] has 0 rows; TFLite models") as caught:
                    client.infer({name: x})
                assert caught.value.code == 400
    model = load(path)
    with pytest.raises(RequestError, match=r"shape \[1, 0, 8, 3\] has 0 values"):
        call(model, **{name: np.ones((1, 0, 8, 3), np.float32)})


def test_tflite_files_that_cannot_be_served(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(b"")
    assert "the file is empty" in failure(path)
    path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    assert "not a TFLite model that can be run, or cut short" in failure(path)
    path.write_bytes(b"hello world" * 10)
    assert "not a TFLite model that can be run, or cut short" in failure(path)
    tf = models.tensorflow()
    good = tflite(
        tmp_path / "good.tflite", tf.function(lambda x: x + 1, input_signature=[tf.TensorSpec([2], tf.float32)])
    )
    assert next(
        iter(call(load(good), **{load(good).signatures["serving_default"].inputs[0].name: X[0, :2]}).values())
    ).tolist() == [1, 2]
    for keep in (8, 100, good.stat().st_size // 2):
        path.write_bytes(good.read_bytes()[:keep])
        assert "not a TFLite model that can be run, or cut short" in failure(path)
    assert "run on the cpu, not on 'cuda:0'" in failure(path, device="cuda:0")
    assert "no option inputs" in failure(path, inputs="x")


def test_graphs_that_cannot_be_served(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        tf.add(tf.placeholder(tf.float32, [None], name="x"), tf.get_variable("weight", [4]), name="y")

    unfrozen = save_graph(tmp_path / "unfrozen.pb", build)
    assert "the graph is not frozen: the values of 1 variables are not in it ('weight' is one)" in failure(unfrozen)
    good = save_graph(tmp_path / "good.pb", lambda tf: tf.identity(tf.placeholder(tf.float32, [None]), name="y"))
    data = good.read_bytes()
    cases = {
        "empty": (b"", "the file is empty"),
        "text": (b"hello world\n" * 10, "not a TensorFlow graph, or cut short"),
        "cut": (data[: len(data) - 3], "not a TensorFlow graph, or cut short"),
        "name": (b"\x0a\x0asqueezenet", "not a TensorFlow graph"),
        "op": (data.replace(b"Identity", b"MyOwnOp_"), "has no operation 'MyOwnOp_': name the library"),
        "consts": (save_graph(tmp_path / "c.pb", lambda tf: tf.constant(1.0)).read_bytes(), "the graph has no output"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / f"{name}.pb"
        path.write_bytes(content)
        with pytest.raises(ModelError, match=message):
            load(path)
        failure(path)


def test_saved_models_that_cannot_be_served(tmp_path: Path) -> None:
    tf = models.tensorflow()
    weight = tf.Variable([1.0])
    scale = tf.function(lambda x: {"y": x * weight}, input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    path = saved(tmp_path / "m", variables=weight, serving_default=scale)
    proto = path / "saved_model.pb"
    data = proto.read_bytes()
    (path / "variables/variables.index").rename(path / "kept")
    assert "its variables are missing: no file" in failure(path)
    (path / "kept").rename(path / "variables/variables.index")
    index = path / "variables/variables.index"
    whole = index.read_bytes()
    index.write_bytes(whole[:-1])
    assert f"TensorFlow {tf.__version__} cannot load it (written by {tf.__version__})" in failure(path)
    index.write_bytes(whole)
    for broken in (b"", data[:-5], b"hello world\n"):
        proto.write_bytes(broken)
        assert "saved_model.pb is no SavedModel, or cut short" in failure(path)
    proto.write_bytes(data.replace(b"\x03Mul", b"\x03Zul"))
    assert "has no operation 'Zul': name the library that has it with --custom-op-path" in failure(path)
    bare = saved(tmp_path / "bare", variables=weight)
    assert "the SavedModel has no signatures; save it with" in failure(bare)
    assert call(load(saved(tmp_path / "again", variables=weight, serving_default=scale)), x=X[0])["y"].shape == (4,)


def test_a_file_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    graph = save_graph(tmp_path / "graph.pb", lambda tf: tf.placeholder(tf.float32, name="a_name" * 40))
    caffe = tmp_path / "caffe.pb"
    caffe.write_bytes(b"\x0a\x0asqueezenet\x12\x05\x0a\x01x")
    folder = tmp_path / "folder"
    folder.mkdir()
    assert not ENGINE.recognizes(folder)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01")
    assert [ENGINE.recognizes(path) for path in (graph, caffe, folder, folder / "saved_model.pb")] == [
        True,
        False,
        True,
        True,
    ]
    assert not ENGINE.recognizes(tmp_path / "missing.keras")
    assert find_engine(graph).name == "tensorflow"


CHANNELS_FIRST = """
import sys
from pathlib import Path
import numpy as np
from tensorwire.servers.engines.tf.engine import ENGINE
from tensorwire.servers.model import ModelError
try:
    model = ENGINE.load(Path(sys.argv[1]), options={"intra_op_num_threads": 1, "inter_op_num_threads": 1})
    for rows in (1, 5, 128):
        print(model.run("", {"x:0": np.ones((rows, 2, 6, 7), np.float32)}, ())["y:0"].mean(), end=" ")
except ModelError as error:
    print(error)
"""


@pytest.mark.parametrize("onednn", ["1", "0", "False"])
def test_channels_first_runs_with_onednn_alone(tmp_path: Path, onednn: str) -> None:
    """In a process of its own, since TensorFlow reads the switch once."""
    import os

    def build(tf: Any) -> None:
        x = tf.placeholder(tf.float32, [None, 2, 6, 7], name="x")
        tf.nn.conv2d(x, tf.ones([3, 3, 2, 4]), strides=1, padding="VALID", data_format="NCHW", name="y")

    path = save_graph(tmp_path / "m.pb", build)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHANNELS_FIRST, str(path)],
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": onednn},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if onednn == "1":
        assert done.stdout.split() == ["18.0"] * 3
    else:
        assert "its convolutions have channels first (NCHW), which TensorFlow" in done.stdout
        assert "oneDNN off) cannot run on a CPU: unset TF_ENABLE_ONEDNN_OPTS or set it to 1" in done.stdout
