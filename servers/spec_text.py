"""Tensor specs as people write them: 'image:float32[?, 8, 8]', for options, decorators, tables and messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tensorwire._messages import TensorSpec
from tensorwire.servers.model import ModelError

__all__ = ["dtype_text", "parse_dtype", "parse_spec", "parse_specs", "shape_text"]

_NUMPY = (
    *("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("bool", "complex64", "complex128"),
)
_ML_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
_KNOWN = frozenset((*_NUMPY, *_ML_DTYPES, "string", "any"))

_PART = re.compile(r"(?P<head>[^\[\]]*?)\s*(?P<shape>\[[^\[\]]*\])?")
_HEAD = re.compile(r"(?:(?P<name>.*?)(?P<mark>\s*:\s*|\s+))?(?P<dtype>\w+)")
_ANY_SIZE = ("?", "-1")
_LARGEST = 2**63 - 1


def dtype_text(dtype: np.dtype[Any] | None) -> str:
    """'float32', 'bfloat16'; 'string' for text, 'any' for None."""
    if dtype is None:
        return "any"
    return "string" if dtype.kind in "OUS" else dtype.name


def shape_text(shape: Sequence[int]) -> str:
    """'[?, 3, 224, 224]': a question mark where any size will do; '[]' where the shape is not checked."""
    return "[" + ", ".join("?" if n < 0 else str(n) for n in shape) + "]"


def parse_dtype(text: str) -> np.dtype[Any] | None:
    """The dtype of a name: numpy's own, bfloat16, float8_e4m3fn, float8_e5m2, 'string' (object), 'any' (None).

    Raises ModelError for any other name.
    """
    if text not in _KNOWN:
        raise ModelError(_unknown(text))
    if text == "any":
        return None
    if text in _ML_DTYPES:
        import ml_dtypes

        extended: np.dtype[Any] = np.dtype(getattr(ml_dtypes, text))
        return extended
    return np.dtype(object if text == "string" else text)


def parse_spec(text: str, name: str = "") -> TensorSpec:
    """One spec: 'x:float32[?, 4]', 'x float32 [?, 4]', 'x' (any dtype), or without a name where ``name`` gives it.

    A name may hold colons when a dtype follows ('x:0:float32') or digits do ('x:0'). A missing dtype is any, a
    missing shape is not checked. Raises ModelError that shows the text.
    """
    found = _PART.fullmatch(text.strip())
    if found is None:
        raise ModelError(f"{text!r} is not a tensor such as {_example(name)}")
    own, dtype = _head(found["head"], text, bool(found["shape"]), name)
    if not (own or name):
        raise ModelError(f"{text!r} has no name: write {_example('')}")
    return TensorSpec(own or name, dtype, _shape(found["shape"] or "[]", text))


def parse_specs(text: str) -> tuple[TensorSpec, ...]:
    """Specs with commas between them: 'ids:int64[?, 128], mask:bool[?, 128]'. Empty text is no spec.

    Raises ModelError for what is no spec, and for a name that comes twice.
    """
    specs = tuple([parse_spec(part) for part in _parts(text) if part.strip()])
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise ModelError(f"{text!r} has {name!r} twice")
    return specs


def _parts(text: str) -> Iterator[str]:
    """The text between the commas that are in no brackets."""
    start = depth = 0
    for place, char in enumerate(text):
        depth += (char == "[") - (char == "]")
        if char == "," and not depth:
            yield text[start:place]
            start = place + 1
    yield text[start:]


def _head(head: str, text: str, shaped: bool, named: str) -> tuple[str, np.dtype[Any] | None]:
    """The name (may be empty) and the dtype in what stands before the brackets."""
    found = _HEAD.fullmatch(head)
    if found is not None and found["dtype"] in _KNOWN:
        return (found["name"] or "").strip(), parse_dtype(found["dtype"])
    # A word after a colon or before brackets is a dtype with a slip in it, unless it can only be a name.
    if found is not None and not found["dtype"].isdigit():
        mark = found["mark"]
        if named or (mark and (shaped or ":" in mark)):
            raise ModelError(f"{text!r}: {_unknown(found['dtype'])}")
    return head.strip(), None


def _shape(text: str, whole: str) -> list[int]:
    inner = text[1:-1].strip()
    sizes = []
    for part in inner.split(",") if inner else ():
        size = part.strip()
        if size in _ANY_SIZE:
            sizes.append(-1)
        elif size.isascii() and size.isdigit() and int(size[:20]) <= _LARGEST:
            sizes.append(int(size[:20]))
        else:
            raise ModelError(f"{whole!r}: {size!r} is not a size: write a number, or ? for any")
    return sizes


def _unknown(dtype: str) -> str:
    return f"unknown dtype {dtype!r}: there are {', '.join(sorted(_KNOWN))}"


def _example(name: str) -> str:
    return repr(f"{'' if name else 'x:'}float32[?, 4]")
