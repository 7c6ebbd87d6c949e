"""TensorFlow Serving's PredictRequest of TensorProtos, by protobuf's own runtime and without TensorFlow.

The messages are declared here by the field numbers of tensorflow/core/framework/tensor.proto and
tensorflow_serving/apis/predict.proto; only the fields that a request with named tensors uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from bench.peers.peer import Peer
from bench.workload import STRINGS, Array

_Field = descriptor_pb2.FieldDescriptorProto
_DT_FLOAT, _DT_STRING = 1, 7


def _declare() -> type[Any]:
    file = descriptor_pb2.FileDescriptorProto(name="bench_predict.proto", package="bench", syntax="proto3")
    one, many = _Field.LABEL_OPTIONAL, _Field.LABEL_REPEATED
    shape = file.message_type.add(name="TensorShapeProto")
    shape.nested_type.add(name="Dim").field.add(name="size", number=1, type=_Field.TYPE_INT64, label=one)
    dim = ".bench.TensorShapeProto.Dim"
    shape.field.add(name="dim", number=2, type=_Field.TYPE_MESSAGE, label=many, type_name=dim)
    tensor = file.message_type.add(name="TensorProto")
    add = partial(tensor.field.add, label=one)
    add(name="dtype", number=1, type=_Field.TYPE_INT32)  # an enum there; the same on the wire
    add(name="tensor_shape", number=2, type=_Field.TYPE_MESSAGE, type_name=".bench.TensorShapeProto")
    add(name="tensor_content", number=4, type=_Field.TYPE_BYTES)
    tensor.field.add(name="float_val", number=5, type=_Field.TYPE_FLOAT, label=many).options.packed = True
    tensor.field.add(name="string_val", number=8, type=_Field.TYPE_BYTES, label=many)
    request = file.message_type.add(name="PredictRequest")
    entry = request.nested_type.add(name="InputsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_Field.TYPE_STRING, label=one)
    value = ".bench.TensorProto"
    entry.field.add(name="value", number=2, type=_Field.TYPE_MESSAGE, label=one, type_name=value)
    entries = ".bench.PredictRequest.InputsEntry"
    request.field.add(name="inputs", number=2, type=_Field.TYPE_MESSAGE, label=many, type_name=entries)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    predict: type[Any] = message_factory.GetMessageClass(pool.FindMessageTypeByName("bench.PredictRequest"))
    return predict


class TensorContent(Peer):
    """``tensor_content``: the raw bytes, as ``tf.make_tensor_proto`` fills it; strings in ``string_val``."""

    def __init__(self) -> None:
        self._request = _declare()

    def encode(self, tensors: Mapping[str, Array]) -> bytes:
        request = self._request()
        for name, array in tensors.items():
            tensor = request.inputs[name]
            for size in array.shape:
                tensor.tensor_shape.dim.add(size=size)
            if array.dtype == object:
                tensor.dtype = _DT_STRING
                tensor.string_val.extend(array.ravel().tolist())
            else:
                tensor.dtype = _DT_FLOAT
                self._fill(tensor, array)
        serialized: bytes = request.SerializeToString()
        return serialized

    def decode(self, data: Any) -> Mapping[str, Array]:
        found = {}
        for name, tensor in self._request.FromString(data).inputs.items():
            if tensor.dtype == _DT_STRING:
                array = np.array(list(tensor.string_val), dtype=object)
            else:
                array = self._values(tensor)
            found[name] = array.reshape([dim.size for dim in tensor.tensor_shape.dim])
        return found

    def _fill(self, tensor: Any, array: Array) -> None:
        tensor.tensor_content = array.tobytes()

    def _values(self, tensor: Any) -> Array:
        return np.frombuffer(tensor.tensor_content, np.float32)


class FloatVal(TensorContent):
    """``float_val``: one number at a time, as clients without TensorFlow often fill it."""

    largest = 10_000_000
    lacks = {STRINGS: "a field of numbers"}  # noqa: RUF012

    def _fill(self, tensor: Any, array: Array) -> None:
        tensor.float_val.extend(array.ravel().tolist())

    def _values(self, tensor: Any) -> Array:
        return np.fromiter(tensor.float_val, np.float32, len(tensor.float_val))
