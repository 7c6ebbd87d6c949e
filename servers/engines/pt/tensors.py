"""Arrays as tensors and tensors as arrays, over the same memory wherever both sides can have it."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from tensorwire._copies import count_received
from tensorwire._dlpack import Tensor
from tensorwire.servers.model import Array, RequestError

__all__ = ["CpuTensors", "DeviceTensors"]

_PLAIN = 0x0001 | 0x0100  # numpy's flags C_CONTIGUOUS and ALIGNED
_NUMPYS_OWN = 1  # numpy.dtype.isbuiltin; bfloat16 and float8 are registered from outside


class CpuTensors:
    """Both directions for a model on the CPU. ``lent`` is a view of the array, ``array`` one of the tensor."""

    def __init__(self) -> None:
        import ml_dtypes
        import torch

        self._torch: Any = torch
        self._tensor: Any = torch.Tensor
        self._strided = torch.strided
        # Types that numpy has not: the same bits as integers, then as ml_dtypes' type.
        self._ml_types: dict[Any, tuple[Any, np.dtype[Any]]] = {
            torch.bfloat16: (torch.int16, np.dtype(ml_dtypes.bfloat16)),
            torch.float8_e4m3fn: (torch.uint8, np.dtype(ml_dtypes.float8_e4m3fn)),
            torch.float8_e5m2: (torch.uint8, np.dtype(ml_dtypes.float8_e5m2)),
        }

    def dtype(self, dtype: Any) -> np.dtype[Any] | None:
        """The dtype of arrays for a torch.dtype, None when the wire has none."""
        if dtype in self._ml_types:
            return self._ml_types[dtype][1]
        try:
            found: np.dtype[Any] = self._torch.empty(0, dtype=dtype).numpy().dtype
        except (TypeError, RuntimeError):
            return None
        return found

    def lent(self, name: str, x: Array) -> Any:
        """The array as a tensor (view; the tensor keeps the array alive, and must not be written to when the array is
        read-only). Copied once when it is misaligned, byte-swapped, or has strides that tensors cannot have.

        Raises RequestError 400 for text, which PyTorch does not have.
        """
        if x.flags.num & _PLAIN != _PLAIN or not x.dtype.isnative:
            x = _plain(x)
        dtype = x.dtype
        if dtype.kind in "OUS":
            raise RequestError(400, f"input {name!r}: PyTorch has no tensors of text")
        if dtype.isbuiltin == _NUMPYS_OWN and x.flags.writeable:
            return self._torch.from_numpy(x)
        # Neither warns of memory that is read-only, nor refuses bfloat16, as from_numpy does.
        return self._torch.from_dlpack(Tensor(x))

    def array(self, name: str, value: Any) -> Array:
        """A tensor as an array (view; the array keeps the tensor alive), or a number as one of no dimensions.

        Copied once when it is not contiguous. Raises TypeError for what is neither, or has no dense form.
        """
        if not isinstance(value, self._tensor):
            if isinstance(value, bool | int | float | complex | np.generic | np.ndarray):
                return np.asarray(value)
            raise TypeError(f"output {name!r} is a {type(value).__name__}, neither a tensor nor a number")
        tensor = self._dense(name, value)
        if tensor.is_conj() or tensor.is_neg():
            tensor = tensor.resolve_conj().resolve_neg()
        tensor = tensor.contiguous()
        return self._numpy(name, tensor)

    def stream(self) -> Any:
        """What a call is to be made within, None for nothing."""
        return None

    def finish(self) -> None:
        """Wait until what ``lent`` and ``array`` began is done."""

    def _dense(self, name: str, tensor: Any) -> Any:
        if tensor.layout != self._strided:
            raise TypeError(f"output {name!r} is a sparse tensor; let the model return to_dense() of it")
        if tensor.is_quantized:
            raise TypeError(f"output {name!r} is a quantized tensor; let the model return dequantize() of it")
        return tensor.detach() if tensor.requires_grad else tensor

    def _numpy(self, name: str, tensor: Any) -> Array:
        ml_type = self._ml_types.get(tensor.dtype)
        try:
            if ml_type is None:
                return tensor.numpy()  # type: ignore[no-any-return]
            bits, dtype = ml_type
            return tensor.view(bits).numpy().view(dtype)  # type: ignore[no-any-return]
        except TypeError:
            raise TypeError(f"output {name!r} is of {tensor.dtype}, which arrays do not have") from None


class DeviceTensors(CpuTensors):
    """The same for a model on an accelerator: one copy in and one out, by the device itself and without waiting for
    each where the memory here is page-locked. Each thread has a CUDA stream of its own."""

    def __init__(self, device: Any) -> None:
        super().__init__()
        self._device = device
        self._cuda = device.type == "cuda"
        self._streams = threading.local()

    def stream(self) -> Any:
        """The CUDA stream of this thread, to be entered for a call; None on other devices."""
        if not self._cuda:
            return None
        stream = getattr(self._streams, "stream", None)
        if stream is None:
            stream = self._streams.stream = self._torch.cuda.Stream(self._device)
        return self._torch.cuda.stream(stream)

    def lent(self, name: str, x: Array) -> Any:
        """The array on the device, a copy that is under way; the array must live until ``finish``."""
        return super().lent(name, x).to(self._device, non_blocking=self._cuda)

    def array(self, name: str, value: Any) -> Array:
        """As on the CPU, from the device: a copy that is under way until ``finish``, in page-locked memory."""
        if isinstance(value, self._tensor) and value.device.type != "cpu":
            tensor = self._dense(name, value).resolve_conj().resolve_neg().contiguous()
            if not self._cuda:
                return self._numpy(name, tensor.cpu())
            here = self._torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            here.copy_(tensor, non_blocking=True)
            return self._numpy(name, here)
        return super().array(name, value)

    def finish(self) -> None:
        """Wait for this thread's stream."""
        if self._cuda:
            self._torch.cuda.current_stream(self._device).synchronize()


def _plain(x: Array) -> Array:
    """The array itself if torch can have its memory, else a copy in this machine's byte order."""
    if x.flags.aligned and x.dtype.isnative and all(s >= 0 and not s % x.itemsize for s in x.strides):
        return x
    count_received(x.nbytes)
    return np.array(x, x.dtype.newbyteorder("="), order="C")
