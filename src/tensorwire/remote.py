"""Drop-in for GraphPipe's module of this name: a model on a server as functions of its URL.

    from tensorwire import remote
    y = remote.execute("http://127.0.0.1:9000", x)

Signatures and results are those of ``graphpipe.remote``, with these differences: connections are kept
alive; arrays are writable; String tensors are object arrays of bytes; ``metadata`` returns a
tensorwire.Metadata; input types are those of the inputs. Errors of the server are RemoteError; see
tensorwire.errors for the others.
"""

from __future__ import annotations

import atexit
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorwire._messages import Metadata, TensorSpec
from tensorwire.client import Client

__all__ = [
    "execute",
    "execute_multi",
    "get_input_names",
    "get_input_shapes",
    "get_input_types",
    "get_output_names",
    "get_output_shapes",
    "get_output_types",
    "metadata",
]

_MAX_CLIENTS: Final = 16  # servers whose connections are kept

_clients: OrderedDict[str, Client] = OrderedDict()
_lock = Lock()


def execute(
    uri: str, inp: ArrayLike, input_name: str | None = None, output_name: str | None = None
) -> NDArray[Any] | list[NDArray[Any]]:
    """Run the model on one input; returns the output, or the list of them when there is not exactly one."""
    result = execute_multi(
        uri,
        [inp],
        None if input_name is None else [input_name],
        None if output_name is None else [output_name],
    )
    return result[0] if len(result) == 1 else result


def execute_multi(
    uri: str,
    inputs: Sequence[ArrayLike],
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    config: str | None = None,
) -> list[NDArray[Any]]:
    """Run the model; returns its outputs in order, as views of the received message.

    Without ``input_names`` the inputs are the model's own, in its order; without ``output_names`` so are the
    outputs. Raises ValueError unless every input has one name of its own.
    """
    arrays = [np.asarray(array) for array in inputs]
    outputs = tuple(output_names or ())
    if not input_names:
        return list(_client(uri).infer(arrays, outputs, config=config or "").arrays)
    if len(input_names) != len(arrays) or len(set(input_names)) != len(arrays):
        raise ValueError(f"{len(arrays)} inputs cannot be named {', '.join(map(repr, input_names))}")
    named = dict(zip(input_names, arrays, strict=True))
    return list(_client(uri).infer(named, outputs, config=config or "").arrays)


def metadata(uri: str) -> Metadata:
    """What the server says of its model."""
    return _client(uri).metadata()


def get_input_names(uri: str) -> list[str]:
    """The names of the model's inputs."""
    return [spec.name for spec in metadata(uri).inputs]


def get_output_names(uri: str) -> list[str]:
    """The names of the model's outputs."""
    return [spec.name for spec in metadata(uri).outputs]


def get_input_types(uri: str) -> list[np.dtype[Any] | None]:
    """The dtypes of the model's inputs; None where the model does not say."""
    return [spec.dtype for spec in metadata(uri).inputs]


def get_output_types(uri: str) -> list[np.dtype[Any] | None]:
    """The dtypes of the model's outputs; None where the model does not say."""
    return [spec.dtype for spec in metadata(uri).outputs]


def get_input_shapes(uri: str) -> list[list[int | None]]:
    """The shapes of the model's inputs; None for a dimension of any size."""
    return [_shape(spec) for spec in metadata(uri).inputs]


def get_output_shapes(uri: str) -> list[list[int | None]]:
    """The shapes of the model's outputs; None for a dimension of any size."""
    return [_shape(spec) for spec in metadata(uri).outputs]


def _shape(spec: TensorSpec) -> list[int | None]:
    return [None if size < 0 else size for size in spec.shape]


def _client(uri: str) -> Client:
    """The client of this address; the one that was used longest ago gives way when there are too many."""
    with _lock:
        client = _clients.get(uri)
        if client is not None:
            _clients.move_to_end(uri)
            return client
        client = _clients[uri] = Client(uri)
        retired = _clients.popitem(last=False)[1] if len(_clients) > _MAX_CLIENTS else None
    if retired is not None:
        retired._idle.retire()  # Not close(): another thread may be about to use it.
    return client


@atexit.register
def _close_clients() -> None:
    with _lock:
        clients = list(_clients.values())
        _clients.clear()
    for client in clients:
        client.close()
