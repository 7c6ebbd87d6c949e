"""decode: from bytes to messages, without copying tensor data."""

from collections.abc import Sequence
from typing import Any, TypeVar, overload

from numpy.typing import NDArray
from typing_extensions import Buffer

from tensorwire._messages import Metadata, MetadataRequest, Request, Response

_M = TypeVar("_M", Request, MetadataRequest, Response, Metadata)

@overload
def decode(
    buf: Buffer | NDArray[Any] | Sequence[Buffer],
    type: None = None,
    /,
    *,
    as_str: bool = False,
    max_nbytes: int = 0x7FFFFFFF,
    max_tensors: int = 65536,
    max_ndim: int = 32,
    max_strings: int = 10_000_000,
) -> Request | MetadataRequest: ...
@overload
def decode(
    buf: Buffer | NDArray[Any] | Sequence[Buffer],
    type: type[_M],
    /,
    *,
    as_str: bool = False,
    max_nbytes: int = 0x7FFFFFFF,
    max_tensors: int = 65536,
    max_ndim: int = 32,
    max_strings: int = 10_000_000,
) -> _M: ...
