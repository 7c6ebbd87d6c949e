"""The models that are served: which file, what it is asked, and with which options."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.children import ask
from bench.engines.resnet import IMAGE

BOARD: Final = (2, 6, 7)
"""Planes, rows and columns of az4, a net for four in a row (https://github.com/oracle/graphpipe-tf-py)."""

GPU: Final = "cuda:0"
_REST = 0.02
_REST_ONNX = 0.15
_AZ4 = "graphpipe/az4/az4.000050.pb"


@dataclass(frozen=True)
class Served:
    """A model: the framework's name, its file's ending, and the module that makes a file where none is given.

    ``rest``: seconds that the framework's threads, called directly, spin for more work after a call, and more.
    """

    framework: str
    ending: str
    maker: str
    rest: float
    file: Path | None = None

    def path(self, folder: Path) -> Path:
        """The file; made in the folder when there is none."""
        if self.file is not None:
            return self.file
        path = folder / f"model{self.ending}"
        if not path.exists():
            ask(f"bench.engines.{self.maker}", str(path))
        return path


@dataclass(frozen=True)
class Case:
    """A row: a model, the shape of its one float32 input, and the budget.

    ``slack``: seconds over the call in process that the wire may take; None: the factor of call and echo counts.
    ``device``: where it computes; ``locked``: whether requests for a GPU are received into page-locked memory.
    """

    name: str
    model: Served
    shape: tuple[int, ...]
    slack: float | None = None
    device: str = "cpu"
    locked: bool = True


def cases() -> list[Case]:
    """All rows. $TENSORWIRE_TEST_DATA has the real az4; a net like it stands in elsewhere, under another name."""
    name, board = _board()
    return [
        Case(f"{name}, 128 rows", board, (128, *BOARD)),
        Case(f"{name}, 1 row", board, (1, *BOARD), slack=0.3e-3),
        Case("ResNet-50, ONNX, 8 images", _ONNX, (8, *IMAGE)),
        Case("ResNet-50, TorchScript, 8 images", _TORCH, (8, *IMAGE)),
    ]


def copied() -> list[Case]:
    """What copies are counted of: so many rows that no tensor is small enough to go with the head of its message."""
    name, board = _board()
    return [
        Case(f"{name}, 2,560 rows", board, (2560, *BOARD)),
        Case("ResNet-50, ONNX, 8 images", _ONNX, (8, *IMAGE)),
        Case("ResNet-50, TorchScript, 8 images", _TORCH, (8, *IMAGE)),
    ]


def on_gpu() -> list[Case]:
    """The same nets on the first GPU, with more images: 77 MB."""
    return [
        Case(f"ResNet-50, {name}, {GPU}, 128 images{how}", model, (128, *IMAGE), device=GPU, locked=not how)
        for name, model in (("ONNX", _ONNX), ("TorchScript", _TORCH))
        for how in ("", ", pageable")
    ]


_ONNX: Final = Served("onnx", ".onnx", "resnet_onnx", _REST_ONNX)
_TORCH: Final = Served("torch", ".pt", "resnet_torch", _REST)


def _board() -> tuple[str, Served]:
    folder = os.environ.get("TENSORWIRE_TEST_DATA")
    file = Path(folder) / _AZ4 if folder else None
    real = file is not None and file.exists()
    name = "az4" if real else "net like az4"
    return name, Served("tensorflow", ".pb", "convnet_graph", _REST, file if real else None)
