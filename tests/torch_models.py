"""Small PyTorch modules, and their files in every format."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn


@contextmanager
def without_deprecation() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        yield


def script(module: nn.Module, path: Path) -> Path:
    with without_deprecation():
        torch.jit.save(torch.jit.script(module), str(path))
    return path


def trace(module: nn.Module, path: Path, *args: Any) -> Path:
    with without_deprecation():
        torch.jit.save(torch.jit.trace(module.eval(), args), str(path))
    return path


def export(module: nn.Module, path: Path, *args: Any, **fields: Any) -> Path:
    with path.open("wb") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The tensor attributes self.lstm._flat_weights", UserWarning)
        torch.export.save(torch.export.export(module.eval(), args, **fields), file)
    return path


class ConvNet(nn.Module):
    """[n, 3, h, w] -> [n, classes]"""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.norm(self.conv(image))).mean((2, 3))
        return self.head(self.drop(features))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5, batch_first=True)

    def forward(
        self, x: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        return self.lstm(x, state)


class Dict(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": a + b, "product": a * b}


class Pair(NamedTuple):
    low: torch.Tensor
    high: torch.Tensor


class Named(nn.Module):
    def forward(self, x: torch.Tensor) -> Pair:
        return Pair(x - 1, x + 1)


class Identity(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Scaled(nn.Module):
    """Arguments that are numbers, and one that may be left out."""

    def forward(self, x: torch.Tensor, by: float, times: int = 1, bias: torch.Tensor | None = None) -> torch.Tensor:
        y = x * by * times
        if bias is not None:
            y = y + bias
        return y


class Writes(nn.Module):
    """Writes to its first input, not to its second."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x.add_(1) + y


class Counter(nn.Module):
    """Returns its own memory, which the next call changes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += x
        return self.count


class Transposes(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(0, 1)


class Raises(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() < 0:
            raise ValueError("negative sum")
        return x


class Largest(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.max(x)


class Allocates(nn.Module):
    """As many dimensions as the input has elements, each as large as their sum."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.empty([int(x.sum().item())] * x.numel(), dtype=torch.float64)


class CountsThreads(nn.Module):
    def forward(self, x: torch.Tensor) -> int:
        torch.ones(1 << 16).sum()  # the first parallel work of a thread takes over the number
        return torch.get_num_threads()


class Anything(nn.Module):
    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return torch.stack(tensors).sum(0)
