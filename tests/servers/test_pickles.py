"""Pickles: nothing of them is run unless that is allowed, what they say of themselves, and files that are damaged."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="these models are scikit-learn's")

import joblib
import sklearn
from sklearn.linear_model import LinearRegression, LogisticRegression

from tensorwire.servers.engines import registry
from tensorwire.servers.engines.pickles import Notes, read_notes
from tensorwire.servers.model import ModelError

X = np.random.default_rng(0).normal(size=(20, 3))
LINEAR = "sklearn.linear_model._base.LinearRegression"


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def load(path: Path, **options: Any) -> Any:
    return registry.load_model(path, options=options)


@pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".joblib"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_is_unpickled_unless_it_is_allowed(tmp_path: Path, suffix: str, protocol: int) -> None:
    path, sprung = tmp_path / f"model{suffix}", tmp_path / "sprung"
    path.write_bytes(pickle.dumps(Trap(sprung), protocol))
    message = (
        rf"{path}: a pickle of \w+.mkdir: reading it runs any code that its maker put in. Give --allow-pickle"
        r" \(in a TOML configuration: options = \{ allow_pickle = true \}\) if you trust"
    )
    with pytest.raises(ModelError, match=message):
        load(path)
    with pytest.raises(ModelError, match="reading it runs any code"):
        load(path, allow_pickle="0")
    assert not sprung.exists()
    with pytest.raises(ModelError, match=r"holds a builtins\.NoneType, which has none of predict, "):
        load(path, allow_pickle="1")
    assert sprung.is_dir()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "pack",
    [bytes, zlib.compress, gzip.compress, bz2.compress, lzma.compress, lambda b: lzma.compress(b, lzma.FORMAT_ALONE)],
)
def test_a_pickle_says_what_it_holds_and_who_wrote_it(
    tmp_path: Path, protocol: int, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pack(pickle.dumps(LinearRegression().fit(X, X[:, 0]), protocol)))
    notes = read_notes(path)
    assert notes.sklearn == sklearn.__version__
    assert LINEAR in notes.names
    with pytest.raises(ModelError, match=f"LinearRegression, written by scikit-learn {sklearn.__version__}: reading"):
        load(path)


def test_a_joblib_file_says_it_too_though_arrays_lie_between_its_opcodes(tmp_path: Path) -> None:
    for compress in (0, 3, ("lzma", 3)):
        joblib.dump(LogisticRegression().fit(X, X[:, 0] > 0), tmp_path / "m.joblib", compress=compress)
        assert read_notes(tmp_path / "m.joblib").names[0] == "sklearn.linear_model._logistic.LogisticRegression"
        model = load(tmp_path / "m.joblib", allow_pickle=True)
        assert model.run("", {"x": X}, ("predict_proba",))["predict_proba"].shape == (20, 2)


def test_notes_of_what_is_no_pickle(tmp_path: Path) -> None:
    path = tmp_path / "m.pkl"
    for data in (b"", b"hello", b"\x80\x04", b"\x1f\x8bno gzip", b"x no zlib", b"\xff" * 1000, os.urandom(5000)):
        path.write_bytes(data)
        assert read_notes(path) == Notes()
    assert read_notes(tmp_path / "absent.pkl") == Notes()
    bomb = zlib.compress(b"\0" * (64 << 20), 9)
    path.write_bytes(bomb)
    assert read_notes(path) == Notes()


@pytest.mark.parametrize("allow", [False, True])
def test_damaged_and_foreign_files_are_one_line(tmp_path: Path, allow: bool) -> None:
    whole = pickle.dumps(LinearRegression().fit(X, X[:, 0]))
    for name, data in {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "text": b"hello\n" * 50,
        "list": pickle.dumps([1, 2]),
        "number": pickle.dumps(5),
        "absent": pickle.dumps(np.sin).replace(b"numpy", b"nompy"),
        "unfitted": pickle.dumps(LogisticRegression()),
    }.items():
        for suffix in (".pkl", ".joblib"):
            path = tmp_path / (name + suffix)
            path.write_bytes(data)
            with pytest.raises(ModelError) as caught:
                load(path, allow_pickle=allow)
            assert str(caught.value).startswith(f"{path}: ")
            assert "\n" not in str(caught.value)


def test_a_model_that_exits_when_it_is_read_does_not_end_the_server(tmp_path: Path) -> None:
    class Leaves:
        def __reduce__(self) -> Any:
            return exit, (3,)

    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(Leaves()))
    with pytest.raises(ModelError, match="cannot be used: SystemExit: 3"):
        load(path, allow_pickle=True)


def test_an_older_file_that_is_no_longer_read_names_the_version_that_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "m.pkl"
    old = pickle.dumps(LinearRegression().fit(X, X[:, 0]), 0)
    old = old.replace(sklearn.__version__.encode(), b"0.19.1").replace(
        b"sklearn.linear_model._base", b"sklearn.linear_model.base"
    )
    path.write_bytes(old)
    with pytest.raises(ModelError) as caught:
        load(path, allow_pickle=True)
    assert str(caught.value) == (
        f"{path}: written by scikit-learn 0.19.1, which {sklearn.__version__} does not read: ModuleNotFoundError: No "
        "module named 'sklearn.linear_model.base'. Install scikit-learn==0.19.1, or make the model anew with "
        f"{sklearn.__version__}"
    )


def test_damaged_skops_files_are_one_line(tmp_path: Path) -> None:
    skops_io = pytest.importorskip("skops.io", reason="these models are saved by skops")
    good = tmp_path / "good.skops"
    skops_io.dump(LinearRegression().fit(X, X[:, 0]), good)
    whole = good.read_bytes()
    with zipfile.ZipFile(tmp_path / "other.skops", "w") as archive:
        archive.writestr("a.txt", "b")
    with zipfile.ZipFile(tmp_path / "schema.skops", "w") as archive:
        archive.writestr("schema.json", "[]")
    for name, data in {"empty": b"", "cut": whole[:-100], "half": whole[: len(whole) // 2], "text": b"hello"}.items():
        (tmp_path / f"{name}.skops").write_bytes(data)
    for name in ("empty", "cut", "half", "text", "other", "schema"):
        with pytest.raises(ModelError) as caught:
            load(tmp_path / f"{name}.skops")
        assert str(caught.value).startswith(f"{tmp_path / name}.skops: ")
        assert "\n" not in str(caught.value)
