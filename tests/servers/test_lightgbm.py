"""LightGBM: what boosters give, compared with LightGBM itself, whose memory is read, and damaged files."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lightgbm", reason="these models are LightGBM's")

import lightgbm

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines import registry
from tensorwire.servers.engines.lgbm import ENGINE
from tensorwire.servers.engines.lightgbm_file import check_text
from tensorwire.servers.model import Model, ModelError, RequestError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 4))
TWO = (X[:, 0] > 0).astype(int)
THREE = TWO + (X[:, 1] > 1)


def train(y: Any, x: Any = X, rounds: int = 3, **params: Any) -> Any:
    params = {"verbosity": -1, "num_leaves": 5, "min_data_in_leaf": 5, **params}
    group = [len(x)] if params.get("objective") == "lambdarank" else None
    categorical = [3] if params.pop("categories", False) else "auto"
    return lightgbm.train(params, lightgbm.Dataset(x, y, group=group, categorical_feature=categorical), rounds)


def save(folder: Path, booster: Any, name: str = "model.txt") -> Path:
    booster.save_model(folder / name)
    return folder / name


def load(path: Path, **options: Any) -> Model:
    return registry.load_model(path, options=options)


def outputs(model: Model) -> list[str]:
    return [spec.name for spec in model.signatures[model.default_signature].outputs]


def run(model: Model, x: Any, *names: str) -> dict[str, Any]:
    return dict(model.run("", {"x": x}, names or tuple(outputs(model))))


@pytest.mark.parametrize(
    ("y", "params"),
    [
        (TWO, {"objective": "binary"}),
        (THREE, {"objective": "multiclass", "num_class": 3}),
        (THREE, {"objective": "multiclassova", "num_class": 3}),
        (TWO, {"objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}),
    ],
)
def test_classifiers_give_numbers_of_classes_and_probabilities(tmp_path: Path, y: Any, params: dict[str, Any]) -> None:
    booster = train(y, **params)
    model = load(save(tmp_path, booster))
    assert outputs(model) == ["predict", "margin", "predict_proba"]
    x = X.copy()
    x[::7, 2] = np.nan
    direct = booster.predict(x)
    if direct.ndim == 1:
        direct = np.stack([1 - direct, direct], 1)
    found = run(model, x)
    np.testing.assert_array_equal(found["predict_proba"], direct)
    np.testing.assert_array_equal(found["predict"], direct.argmax(axis=1))
    np.testing.assert_array_equal(found["margin"], booster.predict(x, raw_score=True))
    for name in outputs(model):
        np.testing.assert_array_equal(run(model, x, name)[name], found[name])
    assert model.facts["objective"].startswith(params["objective"])


@pytest.mark.parametrize(
    ("y", "params"),
    [
        (X[:, 0], {"objective": "regression"}),
        (TWO, {"objective": "poisson"}),
        (TWO, {"objective": "cross_entropy"}),
        (TWO, {"objective": "lambdarank"}),
        (X[:, 0], {"objective": "regression", "linear_tree": True}),
        (X[:, 0], {"objective": "regression", "boosting": "dart"}),
        (np.zeros(100), {"objective": "regression"}),  # trees of one leaf
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32])
def test_other_objectives_give_their_value(tmp_path: Path, y: Any, params: dict[str, Any], dtype: Any) -> None:
    booster = train(y, **params)
    model = load(save(tmp_path, booster))
    x = (X * 3).astype(dtype)
    found = run(model, x)
    assert list(found) == ["predict", "margin"]
    np.testing.assert_array_equal(found["predict"], booster.predict(x))
    np.testing.assert_array_equal(found["margin"], booster.predict(x, raw_score=True))


def test_categories(tmp_path: Path) -> None:
    x = X.copy()
    x[:, 3] = RNG.integers(0, 40, len(x))
    booster = train(x[:, 3] % 3 == 0, x, objective="binary", categories=True, min_data_per_group=1, cat_smooth=1)
    path = save(tmp_path, booster)
    assert re.search(r"^num_cat=[1-9]", path.read_text(), re.M)
    np.testing.assert_array_equal(run(load(path), x)["predict_proba"][:, 1], booster.predict(x))


def test_rows_are_read_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(save(tmp_path, train(TWO, objective="binary")))
    addresses = []
    predict = lightgbm.basic._LIB.LGBM_BoosterPredictForMat

    def spy(handle: Any, data: Any, *more: Any) -> Any:
        addresses.append(
            getattr(data, "value", None) or lightgbm.basic.ctypes.cast(data, lightgbm.basic.ctypes.c_void_p).value
        )
        return predict(handle, data, *more)

    monkeypatch.setattr(lightgbm.basic._LIB, "LGBM_BoosterPredictForMat", spy)
    for x in (X, X.astype(np.float32)):
        run(model, x, "predict")
        assert addresses.pop() == x.ctypes.data


def test_names_options_and_an_unknown_one(tmp_path: Path) -> None:
    booster = lightgbm.train(
        {"objective": "binary", "verbosity": -1}, lightgbm.Dataset(X, TWO, feature_name=["a", "b", "c", "d"]), 2
    )
    path = save(tmp_path, booster, "model.lgb")
    model = load(path, intra_op_num_threads=1, concurrency=2)
    assert model.signatures[model.default_signature].inputs == (tw.TensorSpec("x", None, (-1, 4), "a, b, c, d"),)
    assert (model.concurrency, model.engine) == (2, f"lightgbm {lightgbm.__version__}")
    np.testing.assert_array_equal(run(model, X)["predict_proba"][:, 1], booster.predict(X))
    with pytest.raises(ModelError, match="the lightgbm engine has no option size"):
        load(path, size=1)
    model.close()
    with pytest.raises(RequestError, match="model 'model' is closed"):
        run(model, X)


def test_over_the_wire(tmp_path: Path) -> None:
    booster = train(THREE, objective="multiclass", num_class=3)
    with BackgroundServer(save(tmp_path, booster)) as server, tw.Client(server.url) as client:
        found = client.infer({"x": X.astype(np.float32)})
        direct = booster.predict(X.astype(np.float32))
        np.testing.assert_array_equal(found["predict_proba"], direct)
        np.testing.assert_array_equal(found["predict"], direct.argmax(axis=1))
        assert client.infer({"x": X[:0]})["margin"].shape == (0, 3)
        for wrong, message in (
            ({"x": X[:, :3]}, r"shape \[100, 3\] float64 came, expected \[-1, 4\] of any dtype"),
            ([X, X], "2 inputs came, the model takes 'x'"),
        ):
            with pytest.raises(tw.RemoteError, match=message) as caught:
                client.infer(wrong)
            assert caught.value.code == 400


def test_a_pickled_booster_and_a_pickled_wrapper(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="pickles are the scikit-learn engine's")
    labels = np.array(["no", "yes"])[TWO]
    classifier = lightgbm.LGBMClassifier(n_estimators=2, verbosity=-1).fit(X, labels)
    for name, thing in (("booster", classifier.booster_), ("wrapper", classifier)):
        path = tmp_path / f"{name}.pkl"
        path.write_bytes(pickle.dumps(thing))
        found = run(load(path, allow_pickle=True), X, "predict", "predict_proba")
        np.testing.assert_array_equal(found["predict_proba"], classifier.predict_proba(X))
        assert found["predict"].tolist() == (TWO.tolist() if name == "booster" else classifier.predict(X).tolist())


def test_files_that_would_crash_lightgbm_are_refused_before(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Of most of these LightGBM 4 ends the process."""
    path = save(tmp_path, train(THREE, objective="multiclass", num_class=3))
    text = path.read_text()
    capfd.readouterr()
    assert check_text(path)["objective"] == "multiclass num_class:3"
    cases = {
        "empty": "",
        "start": text[:9],
        "cut": text[: len(text) // 2],
        "head": text[:200],
        "text": "tree\nversion=v4\nx",
    }
    cases["end"] = text.replace("end of trees", "end")
    for key, value in {
        "split_feature": "999",
        "left_child": "7777777",
        "right_child": "-300000",
        "threshold": "abc",
        "num_leaves": "300000000",
        "leaf_value": "x",
        "max_feature_idx": "0",
        "num_class": "0",
        "tree_sizes": "1000000000000000000000",
    }.items():
        found = re.search(rf"^{key}=(\S+)", text, re.M)
        assert found is not None
        grown = len(value) - len(found[1])
        changed = text.replace(found[0], f"{key}={value}", 1)
        # The sizes are made to fit, so that only the value is wrong.
        first = re.search(r"^tree_sizes=(\d+)", changed, re.M)
        assert first is not None
        inside = changed.index("Tree=") < found.start()
        cases[key] = changed.replace(first[0], f"tree_sizes={int(first[1]) + grown}", 1) if inside else changed
    cases["loop"] = re.sub(r"^left_child=\S+ (.*)$", r"left_child=0 \1", text, count=1, flags=re.M)
    for name, content in cases.items():
        bad = tmp_path / f"{name}.txt"
        bad.write_text(content)
        with pytest.raises(ModelError) as caught:
            registry.load_model(bad, engine="lightgbm")
        assert str(caught.value).startswith(f"{bad}: not a ")
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("data", [b"", b"tree", b"hello\n", b"tree\nsome poem\n", b"\0" * 100])
def test_other_texts_are_left_to_others(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.txt"
    path.write_bytes(data)
    assert not ENGINE.recognizes(path)
    assert not ENGINE.recognizes(tmp_path)
    assert ENGINE.recognizes(save(tmp_path, train(TWO, objective="binary")))
