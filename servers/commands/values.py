"""Reading the values of options and writing those of tensors, for all commands."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorwire import Client, TensorSpec
from tensorwire.servers.resident import size_text
from tensorwire.servers.spec_text import dtype_text, shape_text

__all__ = [
    "UserError",
    "connect",
    "describe",
    "dtype_text",
    "parse_size",
    "shape_text",
    "shown",
    "size_text",
    "spec_text",
]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)(b?)", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class UserError(Exception):
    """Something that the user can put right: printed as one line, exit code 2."""


def connect(url: str, timeout: float = 60.0, **options: Any) -> Client:
    """A client; raises UserError for a bad URL. ``timeout``: seconds without progress; ``options`` are Client's."""
    try:
        return Client(url, timeout=timeout, **options)
    except ValueError as error:
        raise UserError(str(error)) from None


def parse_size(text: str, option: str) -> int:
    """Bytes from '1GiB', '500 MB', '64k' (KiB, MiB and so on are powers of 1024, kB and MB of 1000).

    Raises UserError that names the option.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UserError(f"{option}: {text!r} is not a size such as 1GiB, 500MB or 1048576")
    number, prefix, binary, _ = match.groups()
    size = int(float(number) * (1024 if binary else 1000) ** _POWERS[prefix.lower()])
    if size < 1:
        raise UserError(f"{option} must be at least 1 byte, is {text!r}")
    return size


def spec_text(spec: TensorSpec) -> str:
    """'image float32 [?, 8, 8]'."""
    return f"{shown(spec.name)} {dtype_text(spec.dtype)} {shape_text(spec.shape)}"


def describe(array: NDArray[Any]) -> str:
    """Dtype and shape of an array, and its values when they are few."""
    text = f"{dtype_text(array.dtype)} {shape_text(array.shape)}"
    if 0 < array.size <= 10:
        text += " " + np.array2string(array.reshape(-1), precision=4, max_line_width=10_000, separator=", ")
    return text


def shown(text: str) -> str:
    """Text from elsewhere without what would steer a terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
