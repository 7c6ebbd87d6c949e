"""The window that a convolution or a pooling slides over an image, and how it meets the image's edge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tensorwire.servers.engines.nets.graph import shape_of
from tensorwire.servers.model import ModelError

__all__ = ["Window", "spatial"]

_LARGEST = 2**20


@dataclass(frozen=True, slots=True)
class Window:
    """Sizes by spatial dimension: kernel, strides, dilations, and padding before (heads) and after (tails).

    ``mode`` is how the number of steps is rounded: 'floor' leaves out a last window that does not fit whole, 'ceil'
    pads for it, 'same' pads so that an image of n gives ceil(n / stride), the odd pixel after. ``clip`` with 'ceil':
    a last window that would start in the padding is left out, as Caffe does where there is padding.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    heads: tuple[int, ...]
    tails: tuple[int, ...]
    mode: str = "floor"
    clip: bool = False

    def __post_init__(self) -> None:
        rank = len(self.kernel)
        checks = (
            ("kernel", self.kernel, 1),
            ("strides", self.strides, 1),
            ("dilations", self.dilations, 1),
            ("pads", self.heads, 0),
            ("pads", self.tails, 0),
        )
        for name, numbers, least in checks:
            if len(numbers) != rank:
                raise ModelError(f"{name} {list(numbers)} do not fit a kernel of {rank} dimensions")
            if any(not least <= number <= _LARGEST for number in numbers):
                raise ModelError(f"{name} {list(numbers)}: a number from {least} to {_LARGEST} is expected")

    @property
    def extents(self) -> tuple[int, ...]:
        """Pixels from the first to the last that the kernel touches."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def pads(self) -> list[int]:
        """As ONNX wants them: all heads, then all tails."""
        return [*self.heads, *self.tails]

    def fixed(self, image: Sequence[int | None] | None) -> Window | None:
        """The same steps with explicit padding and the mode 'floor', None when the image's size is not known.

        Raises ModelError when the window is larger than the padded image.
        """
        rank = len(self.kernel)
        if self.mode == "floor" and (image is None or len(image) != rank or None in image):
            return self
        if image is None or len(image) != rank or any(size is None for size in image):
            return None
        sides = [self._side(axis, size or 0) for axis, size in enumerate(image)]
        heads, tails = (tuple(side[i] for side in sides) for i in (0, 1))
        return replace(self, heads=heads, tails=tails, mode="floor", clip=False)

    def _side(self, axis: int, size: int) -> tuple[int, int]:
        """The padding before and after, along one dimension."""
        head, tail, step, extent = self.heads[axis], self.tails[axis], self.strides[axis], self.extents[axis]
        if self.mode == "same":
            needed = (-(-size // step) - 1) * step + extent - size
            if needed < -1:
                raise ModelError(
                    f"its kernel {list(self.kernel)} and strides {list(self.strides)} skip pixels at the edge"
                )
            needed = max(needed, 0)
            return needed // 2, needed - needed // 2
        if size + head + tail < extent:
            raise ModelError(
                f"its kernel {list(self.kernel)} is larger than the image, {size} pixels padded to {size + head + tail}"
            )
        if self.mode == "floor":
            return head, tail
        steps = -(-(size + head + tail - extent) // step) + 1
        if self.clip and head > 0 and (steps - 1) * step >= size + head:
            steps -= 1
        return head, max((steps - 1) * step + extent - size - head, 0)


def spatial(sizes: Sequence[int | None] | None, rank: int) -> Sequence[int | None] | None:
    """The image's sizes in a tensor [batch, channels, ...] of unknown or matching rank. Raises ModelError."""
    if sizes is None:
        return None
    if len(sizes) != rank + 2:
        raise ModelError(f"its kernel has {rank} dimensions, its input the shape {shape_of(sizes)}")
    return sizes[2:]
