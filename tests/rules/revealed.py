"""Read by mypy, never run: what a user's type checker infers from the public face."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import tensorwire as tw


def codec(data: bytes, x: NDArray[np.float32]) -> None:
    frame = tw.encode(tw.Request({"x": x}, outputs=["y"]))
    assert_type(frame, tw.Frame)
    assert_type(frame.buffers, list[bytes | memoryview])
    assert_type(frame.nbytes, int)
    assert_type(frame.write_into(bytearray(10)), int)
    assert_type(tw.decode(data), tw.Request | tw.MetadataRequest)
    assert_type(tw.decode(data, tw.Request), tw.Request)
    assert_type(tw.decode(data, tw.Response, max_tensors=3), tw.Response)
    assert_type(tw.decode(data, tw.Metadata), tw.Metadata)
    request = tw.decode(data, tw.Request)
    assert_type(request.inputs["x"], NDArray[Any])
    assert_type(request.inputs[0], NDArray[Any])
    assert_type(request.outputs, tuple[str, ...])
    assert_type(list(request.inputs), list[str])


def client(x: NDArray[np.float32]) -> None:
    with tw.Client("http://127.0.0.1:9000") as connected:
        assert_type(connected.infer({"x": x}), tw.Tensors)
        assert_type(connected.infer({"x": x})["y"], NDArray[Any])
        assert_type(connected.metadata(), tw.Metadata)
        assert_type(connected.metadata().inputs[0].shape, tuple[int, ...])
