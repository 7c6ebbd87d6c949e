"""A file beside a model that says what the model itself does not: NAME.signature.json or NAME.signature.toml.

    {"description": "faces in a picture",
     "inputs": ["image:uint8[?, ?, 3]"],
     "outputs": [{"name": "boxes", "dtype": "float32", "shape": [-1, 4], "description": "x0, y0, x1, y1 in pixels"}]}

``inputs`` and ``outputs`` are lists of tensors, in the model's order, each as text ('x:float32[?, 3]') or as a table; a
size of -1 or "?" is any. All keys may be missing.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorwire._messages import TensorSpec
from tensorwire.servers.model import ModelError
from tensorwire.servers.spec_text import parse_dtype, parse_spec

__all__ = ["Declared", "declared_beside", "read_declared"]

_SUFFIXES = (".signature.json", ".signature.toml")
_LARGEST = 1 << 20
_KEYS = ("name", "dtype", "shape", "description")


@dataclass(frozen=True, slots=True)
class Declared:
    """What a user says of a model; an empty side is not declared."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    description: str = ""


def declared_beside(model: Path) -> Declared:
    """What the file beside a model declares, nothing when there is none. Raises ModelError."""
    for suffix in _SUFFIXES:
        path = model.with_name(model.stem + suffix)
        if path.is_file():
            return read_declared(path)
    return Declared()


def read_declared(path: Path) -> Declared:
    """What a signature file declares. Raises ModelError that names the file and the place in it."""
    try:
        if path.stat().st_size > _LARGEST:
            raise ModelError(f"{path}: larger than {_LARGEST} bytes, so it is no signature file")
        text = path.read_text()
        found = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise ModelError(f"{path}: not {kind}: {error}") from None
    try:
        return _declared(found)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def _declared(found: Any) -> Declared:
    if not isinstance(found, Mapping):
        raise ModelError("it holds no table with inputs and outputs")
    _refuse_unknown(found, ("inputs", "outputs", "description"), "")
    description = found.get("description", "")
    if not isinstance(description, str):
        raise ModelError("description is no text")
    return Declared(_side(found, "inputs"), _side(found, "outputs"), description)


def _side(found: Mapping[str, Any], side: str) -> tuple[TensorSpec, ...]:
    entries = found.get(side, [])
    if not isinstance(entries, list):
        raise ModelError(f"{side} is no list")
    specs = []
    for place, entry in enumerate(entries):
        try:
            specs.append(_spec(entry))
        except ModelError as error:
            raise ModelError(f"{side}[{place}]: {error}") from None
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise ModelError(f"{side} has {name!r} twice")
    return tuple(specs)


def _spec(entry: Any) -> TensorSpec:
    if isinstance(entry, str):
        return parse_spec(entry)
    if not isinstance(entry, Mapping):
        raise ModelError(f"{entry!r} is neither text such as 'x:float32[?, 4]' nor a table")
    _refuse_unknown(entry, _KEYS, " of a tensor")
    name, dtype, about = entry.get("name", ""), entry.get("dtype", "any"), entry.get("description", "")
    if not (isinstance(name, str) and name):
        raise ModelError("it has no name")
    if not (isinstance(dtype, str) and isinstance(about, str)):
        raise ModelError("dtype and description are text")
    return TensorSpec(name, parse_dtype(dtype), _shape(entry.get("shape", [])), about)


def _shape(sizes: Any) -> list[int]:
    if not isinstance(sizes, list):
        raise ModelError(f"shape {sizes!r} is no list")
    found = [-1 if size == "?" else size for size in sizes]
    for size in found:
        if type(size) is not int or not -1 <= size < 2**63:
            raise ModelError(f"shape {sizes!r}: {size!r} is not a size: write a number, or -1 or '?' for any")
    return found


def _refuse_unknown(table: Mapping[str, Any], keys: tuple[str, ...], of: str) -> None:
    for key in table:
        if key not in keys:
            raise ModelError(f"unknown key {key!r}: the keys{of} are {', '.join(keys)}")
