"""ResNet-50, version 1 (https://arxiv.org/abs/1512.03385, table 1 and figure 5): what its layers are.

A bottleneck block is three convolutions, 1x1, 3x3 and 1x1, each with batch normalization, beside a shortcut; the first
block of a stage has a 1x1 convolution in its shortcut, and from the second stage on halves the image in its first one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

IMAGE: Final = (3, 224, 224)
STEM: Final = 64
CLASSES: Final = 1000
EXPANSION: Final = 4
_STAGES: Final = ((64, 3), (128, 4), (256, 6), (512, 3))
"""Channels of a stage's 3x3 convolutions, and how many blocks it has."""


@dataclass(frozen=True)
class Block:
    """One bottleneck: channels that come in, within, and that go out; ``project``: the shortcut has a convolution."""

    name: str
    taken: int
    width: int
    given: int
    stride: int
    project: bool


def blocks() -> Iterator[Block]:
    """All sixteen, in order."""
    taken = STEM
    for stage, (width, count) in enumerate(_STAGES):
        for number in range(count):
            stride = 2 if stage and not number else 1
            yield Block(f"stage{stage}.{number}", taken, width, width * EXPANSION, stride, project=not number)
            taken = width * EXPANSION
