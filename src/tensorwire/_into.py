"""Receiving outputs into arrays of the caller's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tensorwire._copies import count_received
from tensorwire._decode import decode
from tensorwire._memory import Chunk
from tensorwire._messages import Response, Tensors
from tensorwire._preview import preview
from tensorwire.errors import DecodeError

__all__ = ["Into"]

_LARGE: Final = 64 * 1024  # bytes of a tensor from which on it is received in place; less is cheaper to copy


class Into:
    """The caller's arrays for outputs of one answer, by name; ``name`` gives an answer's outputs their names.

    The largest output is received straight into its array, if that is contiguous; others are copied once.
    Raises ValueError for what cannot be written to.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], name: Callable[[Tensors], Tensors]) -> None:
        for key, array in arrays.items():
            if not isinstance(array, np.ndarray):
                raise ValueError(f"out[{key!r}] is no ndarray: {type(array).__name__}")
            if not array.flags.writeable:
                raise ValueError(f"out[{key!r}] is read-only")
        self._arrays = dict(arrays)
        self._name = name
        self._placed: tuple[str, int, memoryview] | None = None

    def place(self, body: Chunk, got: int) -> tuple[int, memoryview] | None:
        """Where the payload of the largest output begins in a body, and the bytes of the array it belongs in (view).

        Only the first ``got`` bytes of the body are there, so this is a guess; ``read`` sees whether it was
        right. None when no array takes its output as it is.
        """
        self._placed = None
        previews = preview(memoryview(body)[:got])
        nothing = [np.empty(0)] * len(previews)
        names = [shown.name for shown in previews]
        try:
            keys = list(self._name(Tensors(dict(zip(names, nothing, strict=True)) if any(names) else nothing)))
        except DecodeError:
            return None
        largest = _LARGE - 1
        for key, (_, shape, offset) in zip(keys, previews, strict=False):
            array = self._arrays.get(key)
            if array is None or shape != array.shape or not array.flags.c_contiguous:
                continue
            if array.nbytes > largest and offset + array.nbytes <= len(body):
                largest = array.nbytes
                self._placed = key, offset, array.reshape(-1).view(np.uint8).data
        return None if self._placed is None else self._placed[1:]

    def read(self, body: Chunk) -> Response:
        """Decode the complete body, of which a part may have been received into an array."""
        try:
            response = decode(body, Response)
            if self._placed is None or self._was_right(body, response.outputs):
                return response
        except DecodeError:
            if self._placed is None:
                raise
        # The message is not what its beginning looked like: bring its bytes together where it was expected.
        assert self._placed is not None
        _, offset, view = self._placed
        memoryview(body)[offset : offset + len(view)] = view
        count_received(len(view))
        self._placed = None
        return decode(body, Response)

    def tensors(self, outputs: Tensors) -> Tensors:
        """The outputs, with the caller's arrays in the places of those they were given for.

        Raises ValueError when an output is missing, or is of another dtype or shape than its array.
        """
        named = self._name(outputs)
        result = dict(named)
        for key, array in self._arrays.items():
            if key not in result:
                names = ", ".join(map(repr, result)) or "none"
                raise ValueError(f"out[{key!r}]: the answer has no such output, but {names}")
            came = result[key]
            if not _alike(came, array):
                raise ValueError(f"output {key!r} is {_words(came)}, its array in out is {_words(array)}")
            if self._placed is None or self._placed[0] != key:
                np.copyto(array, came)
                count_received(came.nbytes)
            result[key] = array
        return Tensors(result if named.names else list(result.values()))

    def _was_right(self, body: Chunk, outputs: Tensors) -> bool:
        """Only the output that the array is for lies where the bytes in the array belong."""
        assert self._placed is not None
        key, offset, view = self._placed
        came = self._name(outputs).get(key)
        if came is None or _address(came) - body.address != offset or came.nbytes != len(view):
            return False
        return sum(np.may_share_memory(came, other) for other in outputs.arrays) == 1


def _alike(came: NDArray[Any], array: NDArray[Any]) -> bool:
    return came.dtype == array.dtype and came.shape == array.shape


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _words(array: NDArray[Any]) -> str:
    return f"{list(array.shape)} {array.dtype}"
