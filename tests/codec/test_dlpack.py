"""DLPack in and out: every dtype of the wire, no copy, and every reference given back."""

from __future__ import annotations

import gc
import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tensorwire as tw

NUMERIC = [
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"),
    *("bool", "complex64", "complex128", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2),
]


class Foreign:
    """A tensor of a framework that knows nothing but DLPack."""

    def __init__(self, array: np.ndarray[Any, Any], device: tuple[int, int] = (1, 0)) -> None:
        self.tensor = tw.Tensor(array)
        self.device = device

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self) -> Any:
        return self.tensor.__dlpack__()


@pytest.mark.parametrize("dtype", NUMERIC, ids=lambda dtype: np.dtype(dtype).name)
def test_every_dtype_goes_both_ways_without_a_copy(dtype: Any) -> None:
    x = (np.arange(3000) % 2).reshape(30, 100).astype(dtype)
    frame = tw.encode(tw.Request([Foreign(x)]))
    assert np.frombuffer(frame.buffers[1], np.uint8).ctypes.data == x.ctypes.data
    again = tw.decode(bytearray(bytes(frame)), tw.Request).inputs[0]
    assert again.dtype == x.dtype
    assert again.tobytes() == x.tobytes()


def test_numpy_takes_what_we_lend() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    for given in (x, x[::-1, ::2], x.T, np.zeros((0, 3), np.int16), np.array(5.0)):
        taken = np.from_dlpack(tw.Tensor(given))
        assert np.array_equal(taken, given)
        assert given.size == 0 or np.shares_memory(taken, x) or np.shares_memory(taken, given)


@pytest.mark.parametrize("cut", [np.s_[::2], np.s_[:, ::-3], np.s_[1, 2:7], np.s_[0, 0]])
def test_strides_survive(cut: Any) -> None:
    x = np.arange(200, dtype=np.int32).reshape(10, 20)[cut]
    assert tw.decode(bytes(tw.encode(tw.Request([Foreign(x)]))), tw.Request).inputs[0].tolist() == x.tolist()


def test_references_are_given_back() -> None:
    x = np.arange(1000.0)
    before = sys.getrefcount(x)
    tensor = tw.Tensor(x)
    capsule = tensor.__dlpack__()
    assert sys.getrefcount(x) == before + 2
    del capsule  # never taken
    assert sys.getrefcount(x) == before + 1
    taken = np.from_dlpack(tensor)
    del tensor
    assert sys.getrefcount(x) == before + 1
    del taken
    assert sys.getrefcount(x) == before
    frame = tw.encode(tw.Request([Foreign(x)]))
    assert sys.getrefcount(x) > before
    del frame
    gc.collect()
    assert sys.getrefcount(x) == before


def test_decoded_memory_outlives_the_message() -> None:
    message = bytearray(bytes(tw.encode(tw.Request({"x": np.arange(1000.0)}))))
    taken = np.from_dlpack(tw.Tensor(tw.decode(message, tw.Request).inputs["x"]))
    del message
    gc.collect()
    assert taken.sum() == 499500


def test_read_only_memory_is_lent_too() -> None:
    x = tw.decode(bytes(tw.encode(tw.Request([np.arange(1000.0)]))), tw.Request).inputs[0]
    assert not x.flags.writeable
    assert np.from_dlpack(tw.Tensor(x)).sum() == 499500


def test_a_copy_when_asked() -> None:
    x = np.arange(4.0)
    taken = np.from_dlpack(tw.Tensor(x), copy=True)
    assert not np.shares_memory(taken, x)


def test_what_cannot_be_lent_says_so() -> None:
    with pytest.raises(TypeError, match="DLPack has no type for object"):
        tw.Tensor(np.array([b"a"], object))
    with pytest.raises(TypeError, match="byte order"):
        tw.Tensor(np.arange(3, dtype=">i4"))
    with pytest.raises(BufferError, match="not on DLPack device"):
        tw.Tensor(np.arange(3)).__dlpack__(dl_device=(2, 0))
    pairs = np.zeros(4, [("a", "i4"), ("b", "i1")])
    with pytest.raises(BufferError, match="no multiple"):
        tw.Tensor(pairs["a"]).__dlpack__()


def test_tensors_on_other_devices_are_refused() -> None:
    with pytest.raises(tw.EncodeError, match=r"input 'x': .* DLPack device \(2, 0\), not on the CPU"):
        tw.encode(tw.Request({"x": Foreign(np.arange(3), (2, 0))}))


def test_it_prints_and_is_an_array() -> None:
    tensor = tw.Tensor(np.zeros((2, 3), np.float32))
    assert repr(tensor) == "Tensor(float32[2, 3])"
    assert np.asarray(tensor).shape == (2, 3)


def test_torch_both_ways() -> None:
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.bfloat16, torch.bool, torch.complex64, torch.float8_e5m2):
        given = (torch.arange(4000) % 2).to(dtype).reshape(40, 100)
        frame = tw.encode(tw.Request({"x": given}))
        assert np.frombuffer(frame.buffers[1], np.uint8).ctypes.data == given.data_ptr()
        received = tw.decode(bytearray(bytes(frame)), tw.Request).inputs["x"]
        taken = torch.from_dlpack(tw.Tensor(received))
        assert taken.dtype == dtype
        assert taken.data_ptr() == received.ctypes.data
