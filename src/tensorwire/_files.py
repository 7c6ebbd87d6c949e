"""Messages in files: a saved message is a wire message, and a loaded one is mapped, not read."""

from __future__ import annotations

import mmap
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, overload

from tensorwire._decode import decode
from tensorwire._encode import encode
from tensorwire._messages import Metadata, MetadataRequest, Request, Response
from tensorwire.errors import DecodeError

__all__ = ["load", "save"]

_M = TypeVar("_M", Request, MetadataRequest, Response, Metadata)


def save(path: str | PathLike[str], message: Request | MetadataRequest | Response | Metadata) -> int:
    """Write a message to a file, tensors straight from their arrays; returns the bytes written.

    The file is exactly what goes over the wire, so it can be posted as it is. Raises EncodeError, OSError.
    """
    return encode(message).tofile(path)


@overload
def load(path: str | PathLike[str], type: None = None, /, **limits: Any) -> Request | MetadataRequest: ...
@overload
def load(path: str | PathLike[str], type: type[_M], /, **limits: Any) -> _M: ...
def load(path: str | PathLike[str], type: Any = None, /, **limits: Any) -> Any:
    """Map a file and decode the message in it: arrays are read-only views of the file's pages (view).

    ``type`` and ``limits`` are those of ``decode``. The mapping lasts as long as any array over it; do not truncate
    the file meanwhile (reading a page that is gone ends the process, as with any mapping). Raises DecodeError, OSError.
    """
    with Path(path).open("rb") as file:
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:  # what mmap says of an empty file
            raise DecodeError(f"{path}: {error}") from None
    return decode(mapped, type, **limits)
