"""remote: the functions of GraphPipe's module, held against the original where it is installed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from scripted import Server, Start

import tensorwire as tw
from tensorwire import remote

Wire = Callable[..., Server]
X = np.arange(6, dtype=np.float32).reshape(2, 3)
METADATA = tw.Metadata(
    "m",
    "1",
    inputs=[tw.TensorSpec("a", np.float32, (-1, 3)), tw.TensorSpec("b", np.int64, ())],
    outputs=[tw.TensorSpec("y", np.float64, (2, -1)), tw.TensorSpec("z", np.uint8, (5,)), tw.TensorSpec("w")],
)


def model(request: Any) -> tw.Response | tw.Metadata:
    """Outputs without names: the sum of the inputs, then, if asked for two, its negative."""
    if isinstance(request, tw.MetadataRequest):
        return METADATA
    if request.config == "fail":
        return tw.Response(errors=[tw.Status(3, "told to")])
    total = sum(request.inputs.arrays)
    return tw.Response([total, -total][: len(request.outputs) or 1])


@pytest.fixture(autouse=True)
def _no_clients_left(start: Start) -> Iterator[None]:
    yield  # Torn down before the servers, which wait for the clients.
    remote._close_clients()


@pytest.fixture
def original() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("graphpipe.remote")


def test_execute(wire: Wire) -> None:
    server = wire(model)
    y = remote.execute(server.url, X)
    assert isinstance(y, np.ndarray)
    np.testing.assert_array_equal(y, X)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(remote.execute(server.url, X, "a", "y"), X)
    request = tw.decode(server.requests[1][1], tw.Request)
    assert (request.inputs.names, request.outputs) == (("a",), ("y",))
    assert server.accepted == 1


def test_execute_multi(wire: Wire) -> None:
    server = wire(model)
    plus, minus = remote.execute_multi(server.url, [X, X], ["a", "b"], ["y", "z"])
    np.testing.assert_array_equal(plus, 2 * X)
    np.testing.assert_array_equal(minus, -2 * X)
    (only,) = remote.execute_multi(server.url, [X], None, None, config="c")
    np.testing.assert_array_equal(only, X)
    assert tw.decode(server.requests[1][1], tw.Request).config == "c"


def test_execute_returns_a_list_of_several_outputs(wire: Wire) -> None:
    server = wire(lambda request: tw.Response([X, X]))
    result = remote.execute(server.url, X)
    assert isinstance(result, list)
    assert len(result) == 2


def test_strings_come_back_as_bytes(wire: Wire) -> None:
    server = wire(lambda request: tw.Response(list(request.inputs.arrays)))
    for array in (np.array([b"ab", b"c\0"], object), np.array(["ab", "c"]), np.array([b"ab", b"c"])):
        y = remote.execute(server.url, array)
        assert isinstance(y, np.ndarray)
        assert y.dtype == object
        assert y[0] == b"ab"


def test_metadata(wire: Wire) -> None:
    url = wire(model).url
    assert remote.metadata(url) == METADATA
    assert remote.get_input_names(url) == ["a", "b"]
    assert remote.get_output_names(url) == ["y", "z", "w"]
    assert remote.get_input_types(url) == [np.dtype("f4"), np.dtype("i8")]
    assert remote.get_output_types(url) == [np.dtype("f8"), np.dtype("u1"), None]
    assert remote.get_input_shapes(url) == [[None, 3], []]
    assert remote.get_output_shapes(url) == [[2, None], [5], []]


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", "b", "c"]])
def test_every_input_needs_a_name_of_its_own(wire: Wire, names: list[str]) -> None:
    with pytest.raises(ValueError, match="2 inputs cannot be named 'a'"):
        remote.execute_multi("http://127.0.0.1:9", [X, X], names, None)


def test_errors(wire: Wire) -> None:
    with pytest.raises(tw.RemoteError) as caught:
        remote.execute_multi(wire(model).url, [X], None, None, "fail")
    assert (caught.value.code, caught.value.message) == (3, "told to")


def test_clients_are_bounded_and_kept(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_MAX_CLIENTS", 2)
    servers = [wire(model) for _ in range(3)]
    first = remote._client(servers[0].url)
    for _ in range(2):
        for server in servers:
            np.testing.assert_array_equal(remote.execute(server.url, X), X)
    assert [server.accepted for server in servers] == [2, 2, 2]
    assert list(remote._clients) == [server.url for server in servers[1:]]
    # One that was evicted while in use still works, and keeps no connection.
    np.testing.assert_array_equal(first.infer(X)[0], X)
    assert not first._idle


@pytest.mark.filterwarnings("ignore:numElems is deprecated")
def test_same_results_as_the_original(wire: Wire, original: Any) -> None:
    url = wire(model).url
    for module in (original, remote):
        np.testing.assert_array_equal(module.execute(url, X), X)
        np.testing.assert_array_equal(module.execute(url, X, "a", "y"), X)
        assert [a.tolist() for a in module.execute_multi(url, [X, X], ["a", "b"], ["y", "z"])] == [
            (2 * X).tolist(),
            (-2 * X).tolist(),
        ]
        with pytest.raises(Exception, match="told to"):
            module.execute_multi(url, [X], None, None, "fail")
    for name in ("get_input_names", "get_output_names", "get_output_types", "get_input_shapes"):
        assert getattr(remote, name)(url) == getattr(original, name)(url), name


def test_same_functions_as_the_original(original: Any) -> None:
    import inspect

    for name in remote.__all__:
        ours = inspect.signature(getattr(remote, name)).parameters
        theirs = inspect.signature(getattr(original, name)).parameters
        assert list(ours) == list(theirs), name
