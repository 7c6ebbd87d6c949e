"""What the inputs of a network are: Caffe2's and MXNet's files leave out their shapes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tensorwire._messages import TensorSpec
from tensorwire.servers.engines.nets.files import naming, printable, read_file
from tensorwire.servers.model import ModelError
from tensorwire.servers.spec_text import parse_spec, parse_specs

__all__ = ["declared", "read_json", "sizes_of", "value_inputs"]

# caffe2.TensorProto.DataType, which for the first types is also onnx.TensorProto.DataType's number:
# https://github.com/pytorch/pytorch/blob/v1.13.1/caffe2/proto/caffe2.proto
_CAFFE2_TYPES = {
    1: "float32",
    2: "int32",
    3: "uint8",
    5: "bool",
    6: "uint8",
    7: "int8",
    8: "uint16",
    9: "int16",
    10: "int64",
    12: "float16",
    13: "float64",
}
_MOST_JSON = 2**26
_MOST_DIMENSIONS = 16
_LARGEST_SIZE = 2**31 - 1


def declared(option: Any) -> tuple[TensorSpec, ...]:
    """The specs of the option ``inputs``: text such as 'data:float32[?,3,224,224]', with commas between several, or a
    sequence of such texts. Raises ModelError.
    """
    if isinstance(option, str):
        return parse_specs(option)
    return tuple(item if isinstance(item, TensorSpec) else parse_spec(str(item)) for item in option)


def value_inputs(given: str | Path | Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """GraphPipe's description of inputs, a file or what is in it: {"data": [1, [1, 3, 227, 227]]}.

    That is the number of a type (caffe2.TensorProto.DataType) and a shape, as in
    https://github.com/oracle/graphpipe-go/blob/master/cmd/graphpipe-onnx/main.go. Raises ModelError.
    """
    path = None if isinstance(given, Mapping) else Path(given)
    found = given if isinstance(given, Mapping) else read_json(Path(given))
    with naming(path or "value inputs"):
        if not isinstance(found, Mapping) or not found:
            raise ModelError('expected {"data": [1, [1, 3, 227, 227]]}: a type number and a shape for each input')
        return tuple(_value_input(str(name), entry) for name, entry in found.items())


def read_json(path: Path) -> Any:
    """What is in a JSON file. Raises ModelError: unreadable, too large, not JSON."""
    try:
        return json.loads(read_file(path, _MOST_JSON))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not JSON: {printable(str(error))}") from None


def sizes_of(name: str, shape: Any) -> list[int]:
    """The sizes in a JSON list; 0 and -1 are any size. Raises ModelError."""
    fits = isinstance(shape, list) and len(shape) <= _MOST_DIMENSIONS
    if not fits or not all(isinstance(n, int) and -1 <= n <= _LARGEST_SIZE for n in shape):
        raise ModelError(f"input {printable(name, quote=True)}: {printable(str(shape))} is not a shape")
    return [n or -1 for n in shape]


def _value_input(name: str, entry: Any) -> TensorSpec:
    if not isinstance(entry, list) or len(entry) != 2:
        raise ModelError(
            f"input {printable(name, quote=True)}: {printable(str(entry))} is not a type number and a shape"
        )
    number, shape = entry
    if not isinstance(number, int | float) or number not in _CAFFE2_TYPES:
        known = ", ".join(f"{key} {dtype}" for key, dtype in _CAFFE2_TYPES.items())
        raise ModelError(f"input {printable(name, quote=True)}: type {printable(str(number))} is none of {known}")
    return TensorSpec(name, np.dtype(_CAFFE2_TYPES[int(number)]), sizes_of(name, shape))
