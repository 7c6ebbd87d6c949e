"""What a session declares, as a signature; and how outputs that are no tensors become some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorwire._messages import TensorSpec
from tensorwire.servers.engines.ort.facts import class_labels
from tensorwire.servers.engines.ort.types import ML_NUMBERS, TEXT, dtype_of, is_map_sequence, item_type, refusal
from tensorwire.servers.engines.ort.values import Convert, map_columns, stack, text_out
from tensorwire.servers.model import DEFAULT_SIGNATURE, ModelError, Signature

__all__ = ["declared"]

_LONGEST_LABELS = 1000  # characters


def declared(
    path: Path,
    source: Path | bytes,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    descriptions: Mapping[str, str],
) -> tuple[Signature, dict[str, Convert]]:
    """The signature of a session's NodeArgs, and what converts outputs by name.

    A sequence of tensors becomes one tensor with a first axis more; a classifier's list of maps a tensor [rows,
    classes] whose description lists the classes. Outputs that cannot be sent are left out. Raises ModelError for an
    input that cannot be sent, and when no output is left.
    """
    for arg in inputs:
        if dtype_of(arg.type) is None:
            raise ModelError(f"{path}: input {arg.name!r} {refusal(arg.type)}")
    # Sequences come as Python objects, which is not the way that types unknown to numpy take.
    as_values = any(arg.type in ML_NUMBERS for arg in (*inputs, *outputs))
    specs: list[TensorSpec] = []
    convert: dict[str, Convert] = {}
    refused: list[str] = []
    for arg in outputs:
        about = descriptions.get(arg.name, "")
        dtype = dtype_of(arg.type)
        item = None if as_values else item_type(arg.type)
        item_dtype = None if item is None or item in ML_NUMBERS else dtype_of(item)
        if dtype is not None:
            specs.append(TensorSpec(arg.name, dtype, _shape(arg), description=about))
            if arg.type == TEXT:
                convert[arg.name] = text_out
        elif item_dtype is None:
            refused.append(f"{arg.name!r} {refusal(arg.type)}")
        elif is_map_sequence(arg.type):
            labels = class_labels(source, arg.name)
            width = -1 if labels is None else len(labels)
            specs.append(TensorSpec(arg.name, item_dtype, (-1, width), description=_with_labels(about, labels)))
            convert[arg.name] = map_columns(arg.name, labels, item_dtype)
        else:
            specs.append(TensorSpec(arg.name, item_dtype, (), description=about))
            convert[arg.name] = stack(arg.name, item_dtype)
    if not specs:
        raise ModelError(f"{path}: none of the outputs is a tensor that can be sent: {', '.join(refused)}")
    return Signature(DEFAULT_SIGNATURE, tuple(_spec(arg, descriptions) for arg in inputs), tuple(specs)), convert


def _spec(arg: Any, descriptions: Mapping[str, str]) -> TensorSpec:
    return TensorSpec(arg.name, dtype_of(arg.type), _shape(arg), description=descriptions.get(arg.name, ""))


def _shape(arg: Any) -> list[int]:
    # A dimension is a size, a name, or None. ONNX Runtime reports a scalar and an unknown rank alike, as [].
    return [dim if isinstance(dim, int) and dim >= 0 else -1 for dim in arg.shape]


def _with_labels(about: str, labels: Sequence[Any] | None) -> str:
    if labels is None:
        return about
    text = "classes: " + ", ".join(str(label) for label in labels)
    text = text if len(text) <= _LONGEST_LABELS else text[:_LONGEST_LABELS] + "..."
    return f"{about} ({text})" if about else text
