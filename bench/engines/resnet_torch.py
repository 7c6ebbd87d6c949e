"""ResNet-50 with random weights as TorchScript: ``python -m bench.engines.resnet_torch PATH``."""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from torch import nn

from bench.engines.resnet import CLASSES, EXPANSION, IMAGE, STEM, Block, blocks


def _convolve(taken: int, given: int, size: int, stride: int = 1) -> Any:
    convolution = nn.Conv2d(taken, given, size, stride, size // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(given))


class _Bottleneck(nn.Module):  # type: ignore[misc]  # torch is untyped here
    def __init__(self, block: Block) -> None:
        super().__init__()
        self.first = _convolve(block.taken, block.width, 1, block.stride)
        self.second = _convolve(block.width, block.width, 3)
        self.third = _convolve(block.width, block.given, 1)
        project = _convolve(block.taken, block.given, 1, block.stride)
        self.shortcut = project if block.project else nn.Identity()

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.second(torch.relu(self.first(x))))
        return torch.relu(self.third(y) + self.shortcut(x))


def make() -> Any:
    """The module, ready for inference: [N, 3, 224, 224] to [N, 1000], float32."""
    torch.manual_seed(0)
    module = nn.Sequential(
        _convolve(IMAGE[0], STEM, 7, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        *map(_Bottleneck, blocks()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(512 * EXPANSION, CLASSES),
    )
    return module.eval()


if __name__ == "__main__":
    module = make()
    with torch.inference_mode():
        torch.jit.trace(module, torch.zeros(1, *IMAGE)).save(sys.argv[1])
    print(json.dumps(sum(parameter.numel() for parameter in module.parameters())))
