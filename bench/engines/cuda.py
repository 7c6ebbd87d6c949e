"""Whether there is a GPU to measure on."""

from __future__ import annotations

import ctypes

__all__ = ["cuda_missing"]


def cuda_missing() -> str:
    """Why nothing can be measured on a GPU; empty when there is one. Asks NVIDIA's driver, and opens no context.

    https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__DEVICE.html
    """
    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    except (OSError, AttributeError):
        failed = True
    return "no CUDA device" if failed or not count.value else ""
