"""scikit-learn: what estimators of every kind take and give, compared with calling them, and files of both formats."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="these models are scikit-learn's")
pytest.importorskip("skops", reason="these models are saved by skops")

import joblib
import skops.io
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PowerTransformer, StandardScaler

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines import registry
from tensorwire.servers.model import Model, RequestError
from tensorwire.servers.repository.local import open_model

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)
NAMES = np.array(["low", "middle", "high"])


def save(folder: Path, estimator: Any, name: str = "model.skops") -> Path:
    path = folder / name
    skops.io.dump(estimator, path)
    return path


def load(path: Path, **options: Any) -> Model:
    return registry.load_model(path, options=options)


def load_trusted(path: Path, **options: Any) -> Model:
    """skops knows no trees, nor functions of numpy."""
    return load(path, trusted=skops.io.get_untrusted_types(file=path), **options)


def specs(model: Model) -> dict[str, tuple[str, tuple[int, ...]]]:
    signature = model.signatures[model.default_signature]
    return {spec.name: (str(spec.dtype), spec.shape) for spec in signature.outputs}


def run(model: Model, x: Any, *outputs: str) -> dict[str, Any]:
    signature = model.signatures[model.default_signature]
    names = outputs or tuple(spec.name for spec in signature.outputs)
    return dict(model.run("", {signature.inputs[0].name: x}, names))


def test_a_classifier_gives_labels_and_probabilities(tmp_path: Path) -> None:
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, NAMES[Y])
    model = load(save(tmp_path, estimator))
    assert specs(model) == {
        "predict": ("object", (-1,)),
        "predict_proba": ("float64", (-1, 3)),
        "decision_function": ("float64", (-1, 3)),
    }
    assert model.signatures[model.default_signature].inputs == (tw.TensorSpec("x", None, (-1, 4)),)
    for dtype in (np.float64, np.float32, np.int16, np.uint8, np.bool_):
        x = (X * 2).astype(dtype)
        found = run(model, x)
        assert found["predict"].tolist() == estimator.predict(x).tolist()
        np.testing.assert_array_equal(found["predict_proba"], estimator.predict_proba(x))
        np.testing.assert_array_equal(found["decision_function"], estimator.decision_function(x))
    assert list(run(model, X, "predict_proba")) == ["predict_proba"]
    assert model.description == "StandardScaler > LogisticRegression"
    assert model.facts["classes"] == "high, low, middle"
    described = {spec.name: spec.description for spec in model.signatures[model.default_signature].outputs}
    assert described["predict_proba"] == "probabilities of high, low, middle"


@pytest.mark.parametrize(
    ("estimator", "outputs"),
    [
        (LinearRegression().fit(X, X[:, 0]), {"predict": ("float64", (-1,))}),
        (LinearRegression().fit(X, X[:, :2]), {"predict": ("float64", (-1, 2))}),
        (StandardScaler().fit(X), {"transform": ("float64", (-1, 4))}),
        (KMeans(3, n_init=1).fit(X), {"predict": ("int32", (-1,)), "transform": ("float64", (-1, 3))}),
        (KernelDensity().fit(X), {"score_samples": ("float64", (-1,))}),
        (PowerTransformer("box-cox").fit(np.abs(X) + 1), {"transform": ("float64", (-1, 4))}),
        (
            IsolationForest(n_estimators=3).fit(X),
            {
                "predict": ("int64", (-1,)),
                "decision_function": ("float64", (-1,)),
                "score_samples": ("float64", (-1,)),
            },
        ),
        (
            RandomForestClassifier(3, max_depth=2).fit(X, np.stack([Y, Y > 0], 1)),
            {
                "predict": ("int64", (-1, 2)),
                "predict_proba_0": ("float64", (-1, 3)),
                "predict_proba_1": ("float64", (-1, 2)),
            },
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, dict) else "",
)
def test_every_kind_of_estimator_has_the_outputs_of_its_methods(
    tmp_path: Path, estimator: Any, outputs: dict[str, Any]
) -> None:
    model = load_trusted(save(tmp_path, estimator))
    assert specs(model) == outputs
    x = np.abs(X[:5]) + 1
    found = run(model, x)
    for name, value in found.items():
        method, _, place = name.rpartition("_") if name[-1].isdigit() else (name, "", "")
        direct = getattr(estimator, method)(x)
        np.testing.assert_array_equal(value, direct[int(place)] if place else direct)
    assert {name: (str(value.dtype), value.shape[1:]) for name, value in found.items()} == {
        name: (dtype, shape[1:]) for name, (dtype, shape) in outputs.items()
    }


def test_results_have_the_declared_dtype_whatever_dtype_came(tmp_path: Path) -> None:
    estimator = StandardScaler().fit(X)
    x = X.astype(np.float32)
    assert estimator.transform(x).dtype == np.float32
    assert run(load(save(tmp_path, estimator)), x)["transform"].dtype == np.float64


def test_text_goes_in_and_labels_come_out(tmp_path: Path) -> None:
    texts = ["good morning", "bad weather", "good food", "bad day"]
    estimator = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, ["pos", "neg", "pos", "neg"])
    model = load(save(tmp_path, estimator))
    assert model.signatures[model.default_signature].inputs[0] == tw.TensorSpec(
        "text", object, (-1,), "one text for each row"
    )
    sent = np.array([b"good", "bäd day".encode()], object)
    found = run(model, sent)
    assert found["predict"].tolist() == ["pos", "neg"]
    np.testing.assert_array_equal(found["predict_proba"], estimator.predict_proba(["good", "bäd day"]))
    with pytest.raises(RequestError, match="not UTF-8") as caught:
        run(model, np.array([b"\xff"], object))
    assert caught.value.code == 400


def test_columns_of_text_are_encoded_and_an_unknown_one_is_a_bad_request(tmp_path: Path) -> None:
    rows = np.array([["red", "small"], ["blue", "large"]], object)
    estimator = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(rows, [0, 1])
    model = load(save(tmp_path, estimator))
    assert model.signatures[model.default_signature].inputs == (tw.TensorSpec("x", object, (-1, 2)),)
    assert run(model, np.array([[b"red", b"small"]], object))["predict"].tolist() == [0]
    with pytest.raises(RequestError, match="unknown categories") as caught:
        run(model, np.array([[b"green", b"small"]], object))
    assert caught.value.code == 400
    mixed = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(np.array([["a", 1], ["b", 2]], object), [0, 1])
    with pytest.raises(tw.TensorwireError, match="columns of text beside columns of numbers"):
        load(save(tmp_path, mixed))


def test_numbers_that_are_categories_are_tried_with_a_known_one(tmp_path: Path) -> None:
    estimator = OneHotEncoder().fit(np.array([[5.0, 7.0], [6.0, 8.0]]))
    model = load(save(tmp_path, estimator))
    assert run(model, np.array([[5.0, 8.0]]))["transform"].tolist() == [[1.0, 0.0, 0.0, 1.0]]


def test_a_sample_that_a_transformer_warns_of_does_not_matter(tmp_path: Path) -> None:
    estimator = make_pipeline(FunctionTransformer(np.log), StandardScaler()).fit(np.abs(X) + 1)
    model = load_trusted(save(tmp_path, estimator), inputs="x:float64[?, 4]")
    x = np.abs(X) + 1
    np.testing.assert_array_equal(run(model, x)["transform"], estimator.transform(x))


def test_no_rows_no_numbers_and_not_a_number(tmp_path: Path) -> None:
    model = load(save(tmp_path, LogisticRegression().fit(X, NAMES[Y])))
    empty = run(model, X[:0])
    assert [(name, value.shape, value.dtype) for name, value in empty.items()] == [
        ("predict", (0,), object),
        ("predict_proba", (0, 3), np.float64),
        ("decision_function", (0, 3), np.float64),
    ]
    for x, message in (
        (np.full((1, 4), np.nan), "Input X contains NaN"),
        (np.array([[b"1", b"2", b"3", b"4"]], object), "input 'x': object came, expected numbers"),
        (X[:1].astype(complex), "input 'x': complex128 came, expected numbers"),
    ):
        with pytest.raises(RequestError, match=message) as caught:
            run(model, x)
        assert caught.value.code == 400


def test_a_search_and_the_names_of_features(tmp_path: Path) -> None:
    search = GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), {}, cv=2).fit(X, Y)
    search.feature_names_in_ = np.array(["a", "b", "c", "d"], object)
    skops_path = save(tmp_path, search.best_estimator_)
    assert load(skops_path).description == "StandardScaler > LogisticRegression"
    joblib.dump(search, tmp_path / "search.joblib")
    model = load(tmp_path / "search.joblib", allow_pickle=True)
    assert model.facts["features"] == "a, b, c, d"
    assert model.signatures[model.default_signature].inputs[0].description == "a, b, c, d"
    assert run(model, X)["predict"].tolist() == search.predict(X).tolist()


def test_options(tmp_path: Path) -> None:
    from threadpoolctl import threadpool_info

    forest = RandomForestClassifier(3, n_jobs=2).fit(X, Y)
    model: Any = load_trusted(
        save(tmp_path, make_pipeline(StandardScaler().fit(X), forest)), intra_op_num_threads=1, concurrency=3
    )
    assert model.concurrency == 3
    assert model._estimator.get_params()["randomforestclassifier__n_jobs"] == 1
    run(model, X)
    assert {library["num_threads"] for library in threadpool_info() if library["user_api"] == "openmp"} <= {1}
    untold = FunctionTransformer(np.log1p)
    with pytest.raises(tw.TensorwireError, match="does not say how many features it takes"):
        load(save(tmp_path, untold), trusted="numpy.log1p")
    told = load(save(tmp_path, untold), trusted="numpy.log1p", inputs="rows:float32[?, 2]")
    assert told.signatures["serving_default"].inputs == (tw.TensorSpec("rows", np.float32, (-1, 2)),)
    np.testing.assert_array_equal(
        run(told, np.ones((1, 2), np.float32))["transform"], np.log1p(np.ones((1, 2), np.float32))
    )
    with pytest.raises(tw.TensorwireError, match="the sklearn engine has no option device"):
        load_trusted(save(tmp_path, forest), device="cuda")


def test_a_closed_model_refuses(tmp_path: Path) -> None:
    model = load(save(tmp_path, LinearRegression().fit(X, Y)))
    model.close()
    model.close()
    with pytest.raises(RequestError, match="model 'model' is closed") as caught:
        run(model, X)
    assert caught.value.code == 503


def test_over_the_wire(tmp_path: Path) -> None:
    estimator = LogisticRegression().fit(X, NAMES[Y])
    path = save(tmp_path, estimator, "flowers.skops")
    with BackgroundServer(path) as server, tw.Client(server.url) as client:
        assert client.metadata().name == "flowers"
        found = client.infer({"x": X.astype(np.float32)}, outputs=["predict", "predict_proba"])
        assert [label.decode() for label in found["predict"]] == estimator.predict(X.astype(np.float32)).tolist()
        np.testing.assert_array_equal(found["predict_proba"], estimator.predict_proba(X.astype(np.float32)))
        for wrong, message in (
            ({"x": X[:, :3]}, r"input 'x': shape \[60, 3\] float64 came, expected \[-1, 4\] of any dtype"),
            ({"x": X, "y": X}, "unknown input 'y': the model takes 'x'"),
            ({"x": X * np.nan}, "contains NaN"),
        ):
            with pytest.raises(tw.RemoteError, match=message) as caught:
                client.infer(wrong)
            assert caught.value.code == 400
        assert client.infer({"x": X[:0]})["predict_proba"].shape == (0, 3)


def test_unknown_types_in_a_skops_file_are_named_and_trusted_by_name(tmp_path: Path) -> None:
    path = save(tmp_path, FunctionTransformer(np.sort).fit(X))
    message = r"model.skops: skops does not trust numpy.sort; if you do: --option trusted=numpy.sort$"
    with pytest.raises(tw.TensorwireError, match=message):
        load(path)
    assert run(load(path, trusted="numpy.sort", inputs="x:float64[?, 4]"), X)["transform"].shape == (60, 4)


def test_a_warning_of_another_version_is_a_line_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import pickle

    path = tmp_path / "model.pkl"
    estimator = LinearRegression().fit(X, Y)
    state = pickle.dumps(estimator, protocol=0)
    import sklearn

    version = sklearn.__version__.encode()
    assert state.count(version) == 1
    path.write_bytes(state.replace(version, b"1.0.2"))
    with caplog.at_level(logging.WARNING, "tensorwire.engines"), warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load(path, allow_pickle=True)
    assert "LinearRegression from version 1.0.2" in caplog.text
    assert model.facts["written by"] == "scikit-learn 1.0.2"
    assert run(model, X)["predict"].tolist() == estimator.predict(X).tolist()


def test_open_model_and_inspect_know_the_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tensorwire.servers.cli import main

    path = save(tmp_path, LogisticRegression().fit(X, NAMES[Y]))
    assert open_model(path).engine.startswith("scikit-learn ")
    assert main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert "written by: scikit-learn " in text
    assert "classes: high, low, middle" in text
    assert "predict_proba" in text
