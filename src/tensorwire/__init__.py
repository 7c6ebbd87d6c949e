"""tensorwire: move tensors between processes and serve models, without copying them.

    frame = tensorwire.encode(tensorwire.Request({"x": x}, outputs=["y"]))
    request = tensorwire.decode(data, tensorwire.Request)

The wire is GraphPipe's flatbuffer protocol (schema/graphpipe.fbs). Importing this needs numpy and nothing
else; the clients and ``serve`` load what they need when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensorwire._copies import copy_stats
from tensorwire._decode import decode
from tensorwire._dlpack import Tensor
from tensorwire._encode import encode
from tensorwire._files import load, save
from tensorwire._frame import Frame
from tensorwire._memory import Chunk, Held, pool_limit, pool_stats, pool_trim
from tensorwire._messages import Metadata, MetadataRequest, Request, Response, Status, Tensors, TensorSpec
from tensorwire._version import __version__
from tensorwire.errors import (
    ConnectionLost,
    DeadlineExceeded,
    DecodeError,
    EncodeError,
    LimitError,
    RemoteError,
    TensorwireError,
)

if TYPE_CHECKING:
    from tensorwire import remote
    from tensorwire._serve import serve
    from tensorwire.async_client import AsyncClient
    from tensorwire.client import Client

__all__ = [
    "AsyncClient",
    "Chunk",
    "Client",
    "ConnectionLost",
    "DeadlineExceeded",
    "DecodeError",
    "EncodeError",
    "Frame",
    "Held",
    "LimitError",
    "Metadata",
    "MetadataRequest",
    "RemoteError",
    "Request",
    "Response",
    "Status",
    "Tensor",
    "TensorSpec",
    "Tensors",
    "TensorwireError",
    "__version__",
    "copy_stats",
    "decode",
    "encode",
    "load",
    "pool_limit",
    "pool_stats",
    "pool_trim",
    "remote",
    "save",
    "serve",
]


def __getattr__(name: str) -> Any:
    """Load the parts that need more than numpy when they are first asked for (PEP 562)."""
    if name == "Client":
        from tensorwire.client import Client

        return Client
    if name == "AsyncClient":
        from tensorwire.async_client import AsyncClient

        return AsyncClient
    if name == "serve":
        from tensorwire._serve import serve

        return serve
    if name == "remote":
        from importlib import import_module

        return import_module("tensorwire.remote")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
