"""The PyTorch that is installed: its devices, its threads, and what it was built with."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from tensorwire.servers.model import ModelError

__all__ = ["Threads", "described", "import_torch", "open_device", "without_deprecations"]

_OPTIONS = ("intra_op_num_threads", "inter_op_num_threads")
_WHEELS = "https://pytorch.org/get-started/locally"


def import_torch(path: Path) -> Any:
    """The module torch. Raises ModelError when it is not installed, or cannot be imported."""
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise ModelError(f"{path}: PyTorch cannot be imported: {error}") from error
        raise ModelError(f"{path}: PyTorch is not installed; run: pip install 'tensorwire[torch]'") from None
    except (ImportError, OSError) as error:
        raise ModelError(f"{path}: PyTorch cannot be imported: {error}") from error
    return torch


def open_device(text: str) -> Any:
    """The torch.device of 'cpu', 'cuda', 'cuda:1', 'mps'. Raises ModelError that names what is missing for it."""
    import torch

    try:
        device = torch.device(text)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise ModelError(f"unknown device {text!r}: PyTorch models run on cpu, cuda, cuda:N or mps")
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type == "mps":
        if not torch.backends.mps.is_available():
            raise ModelError(f"device {text}: this machine or this PyTorch {torch.__version__} has no Metal")
        return device
    if torch.version.cuda is None and torch.version.hip is None:
        raise ModelError(
            f"device {text}: PyTorch {torch.__version__} is built without CUDA; get a build from {_WHEELS}"
        )
    if not torch.cuda.is_available():
        raise ModelError(f"device {text}: PyTorch {torch.__version__} finds no GPU; {_driver()}")
    count = torch.cuda.device_count()
    index = torch.cuda.current_device() if device.index is None else device.index
    if index >= count:
        raise ModelError(f"device {text}: there are {count}: cuda:0" + (f" to cuda:{count - 1}" if count > 1 else ""))
    return torch.device("cuda", index)


def described(device: Any) -> str:
    """'PyTorch 2.13.0 (CPU, oneDNN, MKL, 2 threads)', 'PyTorch 2.13.0 (NVIDIA H200, CUDA 13.0, cuDNN 9.10)'."""
    import torch

    version = torch.__version__.partition("+")[0]
    if device.type == "cuda":
        parts = [torch.cuda.get_device_name(device)]
        parts.append(f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}")
        cudnn = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
        parts += [f"cuDNN {cudnn}"] if cudnn else []
    elif device.type == "mps":
        parts = ["Metal"]
    else:
        parts = ["CPU"]
        parts += ["oneDNN"] if torch.backends.mkldnn.is_available() else []
        parts += ["MKL"] if torch.backends.mkl.is_available() else []
        threads = torch.get_num_threads()
        parts.append(f"{threads} thread{'s' * (threads != 1)}")
    return f"PyTorch {version} ({', '.join(parts)})"


@contextmanager
def without_deprecations() -> Iterator[None]:
    """Without the warnings that TorchScript is on its way out, which PyTorch's own compiler causes as well."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        yield


class Threads:
    """A model's hold on the numbers of threads, which PyTorch has once for all models of a process.

    Sets the threads of one operator (intra) and of operators side by side (inter); 0 leaves them as they are. While a
    model holds a number, another is refused. Raises ModelError, also when it is too late for another inter.
    """

    _lock = threading.Lock()
    _holds: ClassVar[list[Threads]] = []

    def __init__(self, intra: int, inter: int) -> None:
        import torch

        self._numbers = intra, inter
        with self._lock:
            for other in self._holds:
                for name, asked, held in zip(_OPTIONS, self._numbers, other._numbers, strict=True):
                    if asked and held and asked != held:
                        raise ModelError(
                            f"{name} {asked}: all PyTorch models of a process share their threads, and another model"
                            f" has asked for {held}"
                        )
            if inter and inter != torch.get_num_interop_threads():
                try:
                    torch.set_num_interop_threads(inter)
                except RuntimeError:
                    raise ModelError(
                        f"inter_op_num_threads {inter}: PyTorch works with {torch.get_num_interop_threads()} already;"
                        " it is for the first model of a process to set"
                    ) from None
            if intra and intra != torch.get_num_threads():
                torch.set_num_threads(intra)
            self._holds.append(self)

    def release(self) -> None:
        """Let others set the numbers. Can be called twice."""
        with self._lock:
            if self in self._holds:
                self._holds.remove(self)


def _driver() -> str:
    import ctypes

    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "the NVIDIA driver is not installed (no libcuda.so.1)"
    return "the NVIDIA driver is there, so it is too old for this build or shows no device (see nvidia-smi)"
