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
    assert_type(tw.decode(frame.buffers, tw.Request), tw.Request)
    assert_type(tw.decode(np.frombuffer(data, np.uint8), tw.Request), tw.Request)
    assert_type(tw.save("request.tw", request := tw.Request([x])), int)
    assert_type(tw.load("request.tw", tw.Request, max_tensors=3), tw.Request)
    assert_type(request.inputs.get("x"), NDArray[Any] | None)
    assert_type(tw.Tensor(x).array, NDArray[Any])
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
        assert_type(connected.infer(x, ["y"], out={"y": x}, model="m", deadline_ms=5), tw.Tensors)
        assert_type(connected.send(tw.Request(x)), tw.Response)
        assert_type(connected.send(tw.MetadataRequest()), tw.Metadata)
        for result in connected.infer_many([x, {"x": x}], concurrency=2, progress=True):
            assert_type(result, tw.Tensors)


async def async_client(x: NDArray[np.float32]) -> None:
    async with tw.AsyncClient("http://127.0.0.1:9000", token="t", verify="ca.pem", cert=("c", "k")) as connected:
        assert_type(await connected.infer({"x": x}, out={"y": x}), tw.Tensors)
        assert_type(await connected.metadata(), tw.Metadata)
        assert_type(await connected.send(tw.Request(x)), tw.Response)
        assert_type(await connected.send(tw.MetadataRequest()), tw.Metadata)
        async for result in connected.infer_many([x]):
            assert_type(result, tw.Tensors)
