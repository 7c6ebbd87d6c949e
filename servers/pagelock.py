"""Requests for a GPU are received into page-locked memory, which the GPU reads directly and while the host goes on.

Page-locking is the CUDA runtime's business: the one that the model's framework has brought into this process does it.
https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__MEMORY.html
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import re
import threading
from pathlib import Path
from typing import Any

from tensorwire._memory import page_lock

__all__ = ["PageLock"]

_log = logging.getLogger("tensorwire.pagelock")

_MAPS = Path("/proc/self/maps")
_PROBE = 1 << 21


class PageLock:
    """A model's need of page-locked memory, by its device: 'cuda:1' has it, 'cpu' has not.

    While one is held, blocks that Chunks map are locked. Where there is no CUDA runtime, or it refuses, a line is
    logged and memory stays as it is. Make it on the thread that receives, whose current CUDA device it sets: otherwise
    the first block would open a context on the first GPU, whichever the model is on.
    """

    _guard = threading.Lock()
    _held = 0

    def __init__(self, device: str) -> None:
        self._holds = device.startswith("cuda")
        if not self._holds:
            return
        with PageLock._guard:
            runtime = _runtime()
            reason = _refusal(runtime, device) if runtime is not None else "there is no libcudart in this process"
            if runtime is None or reason:
                self._holds = False
                _log.warning("tensors for %s are not received into page-locked memory: %s", device, reason)
                return
            if not PageLock._held:
                page_lock(_address(runtime.cudaHostRegister), _address(runtime.cudaHostUnregister))
            PageLock._held += 1

    def release(self) -> None:
        """End the need; the last one to do so ends the locking. Can be called twice."""
        with PageLock._guard:
            if self._holds:
                self._holds = False
                PageLock._held -= 1
                if not PageLock._held:
                    page_lock(0, 0)


def _runtime() -> Any:
    """The CUDA runtime library that is loaded already, None when there is none."""
    try:
        maps = _MAPS.read_text()
    except OSError:
        return None
    found = re.search(r"\s(/\S*libcudart[^/\s]*\.so[^/\s]*)$", maps, re.M)
    try:
        return ctypes.CDLL(found[1]) if found else None
    except OSError:
        return None


def _refusal(runtime: Any, device: str) -> str:
    """Try it once on this thread with memory of our own; why it does not work, '' when it does."""
    index = device.partition(":")[2]
    error = runtime.cudaSetDevice(ctypes.c_int(int(index) if index.isdigit() else 0))
    if error:
        return f"cudaSetDevice gave error {error}"
    with mmap.mmap(-1, _PROBE) as block:
        start = ctypes.c_char.from_buffer(block)
        data = ctypes.c_void_p(ctypes.addressof(start))
        error = runtime.cudaHostRegister(data, ctypes.c_size_t(_PROBE), ctypes.c_uint(0))
        undone = 0 if error else runtime.cudaHostUnregister(data)
        del start, data
    if error or undone:
        return f"{'cudaHostRegister' if error else 'cudaHostUnregister'} gave error {error or undone}"
    return ""


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0
