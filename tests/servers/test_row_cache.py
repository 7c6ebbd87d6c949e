"""The row cache: equal answers, and no row computed that was computed before; whatever happens to its folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models as onnx
import pytest
from cached_models import SIZE, Counted, ask, proven, rows, same, spec, summing, sums
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tensorwire.servers.app import make_app
from tensorwire.servers.model import Array, ModelError
from tensorwire.servers.scheduling.row_cache import CachedModel, identity
from tensorwire.servers.scheduling.row_store import RowStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def store(folder: Path) -> Iterator[RowStore]:
    made = RowStore(folder, size=SIZE)
    yield made
    made.close()


def test_only_missing_rows_are_computed_each_once_and_in_order(store: RowStore) -> None:
    model = summing()
    cached = proven(model, store)
    for batch, computed in (
        (rows(1, 2, 1), rows(1, 2)),
        (rows(3, 1, 4, 3, 2), rows(3, 4)),
        (rows(4, 3, 2, 1), None),
        (rows(5, 5, 5), rows(5)),
    ):
        same(ask(cached, x=batch), sums({"x": batch}))
        store.flush()
        if computed is None:
            assert not model.runs
        else:
            assert model.runs.pop()["x"].tolist() == computed.tolist()
    assert (cached.hits, cached.misses) == (1 + 3 + 4 + 2, 2 + 2 + 2 + 1)
    assert cached.status == "row cache: 10 hits, 7 misses, 9 stored, 0 not stored"


def test_the_first_request_of_several_rows_is_run_whole(store: RowStore) -> None:
    model = summing()
    cached = CachedModel(model, store, "id")
    for batch in (rows(1), rows(1), rows(1, 1, 2), rows(2, 2, 1)):
        same(ask(cached, x=batch), sums({"x": batch}))
        store.flush()
    assert model.rows == [1, 3]


SHAPES = st.tuples(st.integers(0, 6), st.integers(0, 3))


@given(st.lists(st.tuples(SHAPES, st.integers(0, 2**32)), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_answers_are_those_of_the_model(store: RowStore, requests: list[tuple[tuple[int, int], int]]) -> None:
    model = Counted(
        lambda inputs: {"y": inputs["a"] * 3, "text": inputs["b"][:, ::-1], "half": inputs["c"].astype(np.float16)},
        [spec("a", np.int16), spec("b", object), spec("c", shape=(-1,))],
        [spec("y", np.int16), spec("text", object), spec("half", np.float16, (-1,))],
    )
    cached = CachedModel(model, store, "id")
    for (n, width), seed in requests:
        rng = np.random.default_rng(seed)
        inputs = {
            "a": rng.integers(0, 2, (n, width), np.int16)[:, ::-1],
            "b": rng.choice(np.array([b"", b"\0", b"1:", b"b1:"], object), (n, width)),
            "c": rng.choice(np.array([0.0, -0.0, np.nan], np.float32), n),
        }
        same(ask(cached, **inputs), model.function(inputs))
        store.flush()
        model.runs.clear()
        same(ask(cached, **inputs), model.function(inputs))
        assert model.rows == ([0] if not n else [])


@pytest.mark.parametrize("kind", [str, bytes])
def test_strings_keep_their_kind(store: RowStore, kind: type) -> None:
    words = ["", "a", "ä", "a\0", "long" * 500]
    values = np.array([w if kind is str else w.encode() for w in words], object)
    model = Counted(lambda inputs: {"y": inputs["x"]}, [spec("x", object, (-1,))], [spec("y", object, (-1,))])
    cached = CachedModel(model, store, "id")
    for _ in range(2):
        same(ask(cached, x=values), {"y": values})
        store.flush()
    same(ask(cached, x=values[::-1]), {"y": values[::-1]})
    assert model.rows == [5]


def test_strings_that_run_together_are_different_rows(store: RowStore) -> None:
    join = lambda inputs: {"y": np.array([a + b"|" + b for a, b in inputs["x"]], object)}  # noqa: E731
    cached = CachedModel(Counted(join, [spec("x", object)], [spec("y", object, (-1,))]), store, "id")
    batch = np.array([[b"ab", b"c"], [b"a", b"bc"], [b"abc", b""], [b"", b"abc"]], object)
    for _ in range(2):
        assert ask(cached, x=batch)["y"].tolist() == [b"ab|c", b"a|bc", b"abc|", b"|abc"]
        store.flush()


def test_what_differs_is_not_mixed(store: RowStore) -> None:
    model = summing()
    cached = proven(model, store)
    other = proven(model, store, "another")
    batch = rows(1, 2)
    ask(cached, x=batch)
    store.flush()
    same(ask(cached, "sum", x=batch), {"sum": batch.sum(1)})
    same(ask(cached, "double", x=batch), {"double": batch * 2})
    ask(cached, signature="other", x=batch)
    ask(other, x=batch)
    ask(cached, x=batch.view(np.int32))
    ask(cached, x=batch.reshape(2, 3, 1)[:, :, 0:1].reshape(2, 3)[:, :2])
    assert model.rows == [2] * 7
    same(ask(cached, "sum", "double", "sum", x=batch), sums({"x": batch}))
    assert cached.hits == 0


def test_what_has_no_rows_is_run_whole(store: RowStore) -> None:
    total = lambda inputs: {"y": inputs["x"].sum(0, keepdims=True)}  # noqa: E731
    model = Counted(total, [spec("x")], [spec("y")])
    cached = CachedModel(model, store, "id")
    for batch in (rows(1), rows(2), rows(1, 2), rows(2, 1), rows(1, 1)):
        same(ask(cached, x=batch), total({"x": batch}))
        store.flush()
    assert model.rows == [1, 1, 2, 2, 2]

    fixed = Counted(total, [spec("x")], [spec("y", shape=(1, -1))])
    cached = CachedModel(fixed, store, "fixed")
    for batch in (rows(1), rows(1), rows(1, 2), rows(1, 2)):
        same(ask(cached, x=batch), total({"x": batch}))
        store.flush()
    assert fixed.rows == [1, 2, 2]

    scaled = Counted(lambda inputs: {"y": inputs["x"] * inputs["by"]}, [spec("x"), spec("by", shape=())], [spec("y")])
    cached = CachedModel(scaled, store, "scaled")
    for by in (2, 3, 2):
        same(ask(cached, x=rows(1), by=np.float32(by).reshape(())), {"y": rows(1) * np.float32(by)})
    assert scaled.rows == [1, 1, 1]


def test_an_output_that_loses_its_rows_later(store: RowStore) -> None:
    """Rows that are kept are of no use when the rest turns out to be none: the request is run whole."""
    chosen = lambda inputs: {"y": inputs["x"][inputs["x"][:, 0] > 0]}  # noqa: E731
    model = Counted(chosen, [spec("x")], [spec("y")])
    cached = CachedModel(model, store, "id")
    ask(cached, x=rows(1, 2))
    store.flush()
    for _ in range(2):
        batch = rows(1, -5, 2)
        same(ask(cached, x=batch), chosen({"x": batch}))
    assert model.rows == [2, 1, 3, 3]


def test_a_failing_model_fails_and_nothing_is_kept(store: RowStore) -> None:
    def odd(inputs: Mapping[str, Array]) -> dict[str, Any]:
        if (inputs["x"] < 0).any():
            raise ValueError("below 0")
        return {"y": inputs["x"]}

    cached = CachedModel(Counted(odd, [spec("x")], [spec("y")]), store, "id")
    for _ in range(2):
        with pytest.raises(ValueError, match="below 0"):
            ask(cached, x=rows(1, -5))
    same(ask(cached, x=rows(1, 2)), {"y": rows(1, 2)})


def test_big_rows_and_threads(store: RowStore) -> None:
    model = summing()
    cached = proven(model, store)
    big = np.random.default_rng(1).random((3, 100_000), np.float32)
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for batch in (rows(seed, 1, 2), big[[seed % 3, 0]], rows(seed)):
                same(ask(cached, x=batch), sums({"x": batch}))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    store.flush()
    model.runs.clear()
    same(ask(cached, x=big), sums({"x": big}))
    assert sum(model.rows) <= 1


def test_models_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"one")
    known = {identity(path, {}, "e")}
    assert identity(path, {}, "e") in known
    for change in (
        lambda: path.write_bytes(b"two"),
        lambda: (tmp_path / "weights.bin").write_bytes(b"1"),
        lambda: (tmp_path / "weights.bin").write_bytes(b"12"),
    ):
        change()
        assert identity(path, {}, "e") not in known
        known.add(identity(path, {}, "e"))
    assert identity(path, {}, "e 2") not in known
    assert identity(path, {"a": 1}, "e") not in known
    weights = tmp_path / "elsewhere" / "init.pb"
    weights.parent.mkdir()
    weights.write_bytes(b"1")
    before = identity(path, {"init_net": str(weights)}, "e")
    weights.write_bytes(b"2")
    assert identity(path, {"init_net": str(weights)}, "e") != before
    weights.rename(weights.parent / "renamed")
    inside = identity(tmp_path / "elsewhere", {}, "e")
    (tmp_path / "elsewhere/more").touch()
    assert identity(tmp_path / "elsewhere", {}, "e") != inside


def test_a_model_of_a_file_is_served_with_a_cache(tmp_path: Path) -> None:
    x, y = onnx.tensor("x", onnx.ELEMENT.FLOAT, ("n", 3)), onnx.tensor("y", onnx.ELEMENT.FLOAT, ("n", 3))
    path = onnx.save(tmp_path, [("Exp", ["x"], ["y"])], [x], [y])
    answers = []
    for _ in range(2):
        (model,) = make_app(path, cache_dir=tmp_path).service.models
        answers.append(ask(model, x=rows(1, 2))["y"].tobytes())
        status = model.status
        assert "row cache" in model.facts
        model.close()
    assert answers[0] == answers[1]
    assert status.startswith("row cache: 2 hits, 0 misses")
    with pytest.raises(ModelError, match="a model of a file or folder alone"):
        make_app(lambda x: x, cache_dir=tmp_path)
