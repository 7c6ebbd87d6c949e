"""The model served when none is named: a small classifier of handwritten digits, with images to try it on.

Input `image`: float32 [batch, 8, 8], pixels from 0 (paper) to 16 (ink).
Outputs `probabilities`: float32 [batch, 10], rows summing to 1; `label`: int64 [batch], the likeliest digit.

Data: "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine Learning Repository,
1998, https://doi.org/10.24432/C50P49, licensed CC BY 4.0, as shipped by scikit-learn
(`sklearn.datasets.load_digits`); the held-out images and labels are an unchanged part of it.
`tools/train_digits.py` writes both files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["DIGITS", "heldout"]

DIGITS: Path = Path(__file__).with_name("digits.onnx")
"""The ONNX file of the model."""

_HELDOUT = Path(__file__).with_name("digits_heldout.npz")


def heldout() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the images the model was not trained on, and the digits they show.

    Returns:
        images: float32 [n, 8, 8], ink per pixel: the number of dots, 0 to 16, in a 4x4 block of the scan.
            They can be sent to the model as they are.
        labels: int64 [n], digits 0 to 9.

    Both are fresh copies, read from the package on every call.
    """
    with np.load(_HELDOUT, allow_pickle=False) as file:
        return file["images"].astype(np.float32), file["labels"].astype(np.int64)
