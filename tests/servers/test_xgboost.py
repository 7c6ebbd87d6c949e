"""XGBoost: what boosters of every objective give, compared with XGBoost itself, whose memory is read, and its files."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("xgboost", reason="these models are XGBoost's")

import xgboost

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines import registry, ubjson
from tensorwire.servers.engines.pickles import read_notes
from tensorwire.servers.engines.xgb import ENGINE
from tensorwire.servers.model import Model, ModelError, RequestError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 4)).astype(np.float32)
TWO = (X[:, 0] > 0).astype(np.float32)
THREE = TWO + (X[:, 1] > 1)


def train(y: Any, **params: Any) -> Any:
    depth = {} if params.get("booster") == "gblinear" else {"max_depth": 3}
    return xgboost.train(depth | params, xgboost.DMatrix(X, y), 4)


def save(folder: Path, booster: Any, name: str = "model.json") -> Path:
    booster.save_model(folder / name)
    return folder / name


def load(path: Path, **options: Any) -> Model:
    return registry.load_model(path, options=options)


def outputs(model: Model) -> list[str]:
    return [spec.name for spec in model.signatures[model.default_signature].outputs]


def run(model: Model, x: Any, *names: str) -> dict[str, Any]:
    return dict(model.run("", {"x": x}, names or tuple(outputs(model))))


@pytest.mark.parametrize("suffix", [".json", ".ubj", ".bst", ".model"])
def test_every_format_and_suffix_is_known_by_its_content(tmp_path: Path, suffix: str) -> None:
    booster = train(TWO, objective="binary:logistic")
    path = tmp_path / f"model{suffix}"
    path.write_bytes(booster.save_raw("json" if suffix in (".json", ".model") else "ubj"))
    model = load(path)
    assert model.engine == f"xgboost {xgboost.__version__}"
    assert model.facts["objective"] == "binary:logistic"
    assert model.facts["trees"] == "4"
    assert model.facts["written by"] == f"XGBoost {xgboost.__version__}"
    np.testing.assert_array_equal(run(model, X)["predict_proba"][:, 1], booster.predict(xgboost.DMatrix(X)))


@pytest.mark.parametrize(
    ("y", "params"),
    [
        (TWO, {"objective": "binary:logistic"}),
        (THREE, {"objective": "multi:softprob", "num_class": 3}),
        (THREE, {"objective": "multi:softprob", "num_class": 3, "booster": "dart"}),
        (THREE, {"objective": "multi:softprob", "num_class": 3, "booster": "gblinear"}),
        (TWO, {"objective": "binary:logistic", "booster": "gblinear"}),
    ],
)
def test_classifiers_answer_as_xgboosts_classifier(tmp_path: Path, y: Any, params: dict[str, Any]) -> None:
    classifier = xgboost.XGBClassifier(n_estimators=4, **params).fit(X, y)
    model = load(save(tmp_path, classifier))
    assert outputs(model) == ["predict", "margin", "predict_proba"]
    x = X.copy()
    if params.get("booster") != "gblinear":
        x[::7, 2] = np.nan  # a missing value
    found = run(model, x)
    np.testing.assert_array_equal(found["predict"], classifier.predict(x))
    np.testing.assert_array_equal(found["predict_proba"], classifier.predict_proba(x))
    np.testing.assert_array_equal(found["margin"], classifier.predict(x, output_margin=True))
    assert found["predict"].dtype == np.int64
    for name in outputs(model):
        np.testing.assert_array_equal(run(model, x, name)[name], found[name])


def test_labels_without_probabilities_get_them_from_the_margins(tmp_path: Path) -> None:
    soft = train(THREE, objective="multi:softprob", num_class=3)
    model = load(save(tmp_path, train(THREE, objective="multi:softmax", num_class=3)))
    direct = soft.predict(xgboost.DMatrix(X))
    for found in (run(model, X), run(model, X, "predict") | run(model, X, "predict_proba")):
        np.testing.assert_array_equal(found["predict"], direct.argmax(axis=1))
        np.testing.assert_allclose(found["predict_proba"], direct, rtol=1e-6)


@pytest.mark.parametrize(
    ("y", "params", "dtype"),
    [
        (X[:, 0], {"objective": "reg:squarederror"}, np.float32),
        (X[:, :2], {"objective": "reg:squarederror"}, np.float32),
        (TWO, {"objective": "count:poisson"}, np.float32),
        (TWO, {"objective": "binary:logitraw"}, np.float32),
        (TWO, {"objective": "binary:hinge"}, np.int64),
        (X[:, 0], {"objective": "reg:squarederror", "booster": "gblinear"}, np.float32),
    ],
)
def test_other_objectives_give_their_value(tmp_path: Path, y: Any, params: dict[str, Any], dtype: Any) -> None:
    booster = train(y, **params)
    model = load(save(tmp_path, booster))
    assert outputs(model) == ["predict", "margin"]
    found = run(model, X)
    np.testing.assert_array_equal(found["predict"], booster.predict(xgboost.DMatrix(X)))
    np.testing.assert_array_equal(found["margin"], booster.predict(xgboost.DMatrix(X), output_margin=True))
    assert found["predict"].dtype == dtype


def test_several_yes_or_no_targets(tmp_path: Path) -> None:
    classifier = xgboost.XGBClassifier(n_estimators=2).fit(X, np.stack([TWO, 1 - TWO, X[:, 2] > 0], 1))
    found = run(load(save(tmp_path, classifier)), X)
    np.testing.assert_array_equal(found["predict"], classifier.predict(X))
    np.testing.assert_array_equal(found["predict_proba"], classifier.predict_proba(X))


def test_a_wrapper_is_run_to_its_best_iteration_and_a_booster_with_all_its_trees(tmp_path: Path) -> None:
    noisy = np.where(RNG.random(80) < 0.3, 1 - TWO, TWO)
    classifier = xgboost.XGBClassifier(n_estimators=60, early_stopping_rounds=5)
    classifier.fit(X[::2], noisy[::2], eval_set=[(X[1::2], noisy[1::2])], verbose=False)
    assert classifier.best_iteration + 1 < classifier.get_booster().num_boosted_rounds()
    found = run(load(save(tmp_path, classifier)), X, "predict_proba")
    np.testing.assert_array_equal(found["predict_proba"], classifier.predict_proba(X))
    booster = classifier.get_booster()
    booster.set_attr(scikit_learn=None)
    found = run(load(save(tmp_path, booster, "booster.json")), X, "predict_proba")
    np.testing.assert_array_equal(found["predict_proba"][:, 1], booster.predict(xgboost.DMatrix(X)))


def test_rows_are_read_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(save(tmp_path, train(TWO, objective="binary:logistic")))
    addresses = []
    dense = xgboost.core._LIB.XGBoosterPredictFromDense

    def spy(handle: Any, array: bytes, *more: Any) -> Any:
        addresses.append(json.loads(array)["data"][0])
        return dense(handle, array, *more)

    monkeypatch.setattr(xgboost.core._LIB, "XGBoosterPredictFromDense", spy)
    for x in (X, X.astype(np.float64), X.astype(np.int32)):
        run(model, x, "predict")
        assert addresses.pop() == x.ctypes.data
    run(model, np.asfortranarray(X), "predict")
    assert len(addresses) == 1


def test_names_of_features_are_in_the_metadata(tmp_path: Path) -> None:
    names = ["sepal length", "b", "c", "d"]
    booster = xgboost.train({"objective": "reg:squarederror"}, xgboost.DMatrix(X, TWO, feature_names=names), 2)
    model = load(save(tmp_path, booster), intra_op_num_threads=1, concurrency=2)
    assert model.signatures[model.default_signature].inputs == (
        tw.TensorSpec("x", None, (-1, 4), "sepal length, b, c, d"),
    )
    assert model.concurrency == 2
    assert json.loads(booster.save_config()) and run(model, X)["predict"].shape == (80,)
    with pytest.raises(ModelError, match="the xgboost engine has no option size"):
        load(tmp_path / "model.json", size=1)


def test_over_the_wire(tmp_path: Path) -> None:
    booster = train(THREE, objective="multi:softprob", num_class=3)
    with BackgroundServer(save(tmp_path, booster, "iris.ubj")) as server, tw.Client(server.url) as client:
        found = client.infer({"x": X}, outputs=["predict_proba", "predict"])
        direct = booster.predict(xgboost.DMatrix(X))
        np.testing.assert_array_equal(found["predict_proba"], direct)
        np.testing.assert_array_equal(found["predict"], direct.argmax(axis=1))
        assert client.infer({"x": X[:0]})["predict_proba"].shape == (0, 3)
        for wrong, message in (
            ({"x": X[:, :3]}, r"shape \[80, 3\] float32 came, expected \[-1, 4\] of any dtype"),
            ([X, X], "2 inputs came, the model takes 'x'"),
            ({"x": np.array([[b"a"] * 4], object)}, "object came, expected numbers"),
        ):
            with pytest.raises(tw.RemoteError, match=message) as caught:
                client.infer(wrong)
            assert caught.value.code == 400


def test_a_closed_model_refuses(tmp_path: Path) -> None:
    model = load(save(tmp_path, train(TWO)))
    model.close()
    model.close()
    with pytest.raises(RequestError, match="model 'model' is closed"):
        run(model, X)


def test_a_pickled_booster_and_a_pickled_wrapper(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="pickles are the scikit-learn engine's")
    classifier = xgboost.XGBClassifier(n_estimators=2).fit(X, TWO)
    for name, thing in (("booster", classifier.get_booster()), ("wrapper", classifier)):
        path = tmp_path / f"{name}.pkl"
        path.write_bytes(pickle.dumps(thing))
        about = rf"a pickle of xgboost\..*, written by XGBoost, version {xgboost.__version__}: reading it runs any code"
        with pytest.raises(ModelError, match=about):
            load(path)
        found = run(load(path, allow_pickle=True), X, "predict", "predict_proba")
        np.testing.assert_array_equal(found["predict"], classifier.predict(X))
        np.testing.assert_array_equal(found["predict_proba"], classifier.predict_proba(X))


class Reduced:
    """Pickled as a booster of XGBoost is; its bytes are not read."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce__(self) -> Any:
        return xgboost.Booster, (None, None, self.content)


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("compressed", [False, True])
def test_who_wrote_a_pickled_booster_is_told_without_reading_it(
    tmp_path: Path, protocol: int, compressed: bool
) -> None:
    cases = {
        "a version before 1.0": old(0, 0),
        "version 1.7": old(1, 7),
        "version 1.3.3": b'{"Config":{"version":[1,3,3]}}',
        "version 2.1.4": b"{L\x07version[#L" + b"\0" * 7 + b"\x03i\x02i\x01i\x04}",
        "": b"something else",
    }
    for who, content in cases.items():
        path = tmp_path / "m.pkl"
        data = pickle.dumps(Reduced(bytearray(content)), protocol)
        path.write_bytes(zlib.compress(data) if compressed else data)
        notes = read_notes(path)
        assert notes.names[0] == "xgboost.core.Booster"
        assert notes.xgboost == who


def old(major: int, minor: int, start: bytes = b"") -> bytes:
    parameters = struct.pack("<fIiiiII", 0.5, 4, 0, 0, 0, major, minor).ljust(136, b"\0")
    return start + parameters + struct.pack("<Q", 10) + b"reg:linear" + struct.pack("<Q", 6) + b"gbtree" + b"\0" * 400


@pytest.mark.parametrize(
    ("data", "who"),
    [
        (old(0, 0), "a version before 1.0"),
        (old(1, 7), "version 1.7"),
        (old(2, 0, b"binf"), "version 2.0"),
        (old(2**31, 5), "a version before 1.0"),
    ],
)
@pytest.mark.parametrize("suffix", [".bst", ".model"])
def test_the_old_format_is_named_with_its_version_and_the_way_out(
    tmp_path: Path, data: bytes, who: str, suffix: str
) -> None:
    path = tmp_path / f"old{suffix}"
    path.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path}: XGBoost's old binary format, written by {who}, which XGBoost {xgboost.__version__} does not read. "
        "Load it with an older one (pip install 'xgboost<3') and save it anew: booster.save_model('model.json')"
    )


def test_damaged_and_foreign_files_are_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    booster = train(X.sum(axis=1) > 0, objective="binary:logistic")
    text, binary = bytes(booster.save_raw("json")), bytes(booster.save_raw("ubj"))
    files = {
        "empty.json": b"",
        "cut.json": text[: len(text) // 2],
        "end.json": text[:-2],
        "bare.json": b'{"learner":{}}',
        "list.json": b'{"learner":[]}',
        "deep.json": b'{"learner":' + b"[0,[" * 100_000,
        "objects.json": b'{"learner":' + b'{"a":' * 100_000,
        "empty.ubj": b"",
        "cut.ubj": binary[: len(binary) // 2],
        "end.ubj": binary[:-5],
        "text.ubj": b"hello",
        "changed.ubj": binary[:18] + b"\xff" * 50,
        "deep.ubj": binary[:18] + b"[" * 100_000,
        "length.ubj": binary[:18] + b"[$d#L" + b"\x7f" * 8,
        "random.ubj": os.urandom(1000),
    }
    for key, value in {
        "left_children": "-7",
        "right_children": "99999",
        "split_indices": "4",
        "num_nodes": '"5000"',
        "num_feature": '"2"',
        "tree_info": "7,7",
    }.items():
        changed = re.sub(rf'("{key}":\[?)"?[-0-9]+"?', rf"\g<1>{value}", text.decode(), count=key != "num_feature")
        assert changed != text.decode()
        files[f"{key}.json"] = changed.encode()
    files["loop.json"] = re.sub(rb'("left_children":\[)\d+', rb"\g<1>0", text, count=1)
    for name, data in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ModelError) as caught:
            registry.load_model(path, engine="xgboost")
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400
    assert capfd.readouterr() == ("", "")


def test_ubjson_holds_the_same_document_as_json() -> None:
    booster = train(THREE, objective="multi:softprob", num_class=3)

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, list | np.ndarray) else value

    text, binary = json.loads(booster.save_raw("json")), plain(ubjson.parse(bytes(booster.save_raw("ubj"))))
    ours, theirs = (tree["learner"]["gradient_booster"]["model"]["trees"] for tree in (binary, text))
    assert list(binary) == list(text) and len(ours) == 12
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["left_children"] == other["left_children"]
        np.testing.assert_allclose(mine["split_conditions"], other["split_conditions"], rtol=1e-6)
    assert binary["learner"]["learner_model_param"] == text["learner"]["learner_model_param"]


@pytest.mark.parametrize("data", [b"", b"{}", b'{"a": 1}', b"[1]", b'{"version": 3}x', b"hello", b"\0" * 500])
@pytest.mark.parametrize("suffix", [".json", ".model", ".bst"])
def test_other_files_of_these_names_are_left_to_others(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    path.write_bytes(data)
    assert ENGINE.recognizes(path) == (data == b'{"version": 3}x')
    assert not ENGINE.recognizes(tmp_path)
    assert not ENGINE.recognizes(tmp_path / "absent.ubj")
