"""A Caffe2 NetDef as plain Python: operators in order, with their arguments by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tensorwire.servers.engines.nets.caffe2.proto import messages
from tensorwire.servers.engines.nets.files import printable, read_file
from tensorwire.servers.model import Array, ModelError

__all__ = ["Arguments", "Net", "Operator", "net_of", "read_net"]

_MOST_OPERATORS = 100_000
_TEXT = (".pbtxt", ".prototxt", ".txt")


@dataclass(frozen=True, slots=True)
class Net:
    """``inputs`` and ``outputs`` are the blobs that the net says it takes from and leaves to the world."""

    name: str
    operators: tuple[Operator, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Operator:
    """One step of a net; ``inputs`` and ``outputs`` are names of blobs, which a later step may overwrite."""

    number: int
    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    arguments: Arguments

    @property
    def where(self) -> str:
        """'Conv 'conv1' (operator 0)': what messages call it, after its own name or its first output."""
        name = self.name or (self.outputs[0] if self.outputs else "")
        return f"{printable(self.type)} {printable(name, quote=True)} (operator {self.number})"


class Arguments:
    """An operator's arguments by name. The readers raise ModelError for one of another kind."""

    def __init__(self, found: dict[str, Any]) -> None:
        self._found = found

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def whole(self, name: str, default: int = 0) -> int:
        """A whole number; one that was written as a float counts when it has no fraction."""
        argument = self._found.get(name)
        if argument is None:
            return default
        if argument.HasField("i"):
            return int(argument.i)
        if argument.HasField("f") and float(argument.f).is_integer():
            return int(argument.f)
        raise self._wrong(name, "a whole number")

    def number(self, name: str, default: float = 0.0) -> float:
        argument = self._found.get(name)
        if argument is None:
            return default
        if argument.HasField("f"):
            return float(argument.f)
        if argument.HasField("i"):
            return float(argument.i)
        raise self._wrong(name, "a number")

    def text(self, name: str, default: str = "") -> str:
        argument = self._found.get(name)
        if argument is None:
            return default
        if not argument.HasField("s"):
            raise self._wrong(name, "text")
        return bytes(argument.s).decode("utf-8", "replace")

    def data(self, name: str) -> bytes:
        """Bytes, empty when the argument is missing."""
        argument = self._found.get(name)
        return bytes(argument.s) if argument is not None else b""

    def wholes(self, name: str) -> list[int]:
        """Whole numbers, none when the argument is missing."""
        argument = self._found.get(name)
        if argument is None:
            return []
        if argument.floats and not argument.ints:
            raise self._wrong(name, "a list of whole numbers")
        return [int(item) for item in argument.ints] or ([int(argument.i)] if argument.HasField("i") else [])

    def texts(self, name: str) -> list[bytes]:
        argument = self._found.get(name)
        return [bytes(item) for item in argument.strings] if argument is not None else []

    def array(self, name: str) -> Array:
        """A list of numbers as an array of one dimension: float32 (one copy, as a block) or int64."""
        argument = self._found.get(name)
        if argument is None:
            return np.empty(0, np.float32)
        if argument.ints:
            return np.array(argument.ints, np.int64)
        if not argument.floats:
            return np.array([argument.i]) if argument.HasField("i") else np.empty(0, np.float32)
        if argument.strings or argument.nets or argument.HasField("n"):
            raise self._wrong(name, "a list of numbers")
        # Fields are written in the order of their numbers, and of those that are left floats are the last: the message
        # ends with the numbers as numpy would lay them out.
        data = argument.SerializeToString()
        return np.frombuffer(data, "<f4", offset=len(data) - 4 * len(argument.floats))

    def is_float(self, name: str) -> bool:
        argument = self._found.get(name)
        return argument is not None and bool(argument.HasField("f"))

    def _wrong(self, name: str, expected: str) -> ModelError:
        kinds = ", ".join(field.name for field, _ in self._found[name].ListFields() if field.name != "name")
        return ModelError(f"argument {printable(name)} is {expected}, the file has {kinds or 'nothing'}")


def read_net(path: Path) -> Net:
    """Read a NetDef, binary or text. Raises ModelError: unreadable, not a NetDef, cut short, without operators."""
    data = read_file(path)
    if not data:
        raise ModelError(f"{path}: the file is empty")
    message = _parsed_text(path, data) if path.suffix.lower() in _TEXT else _parsed(path, data)
    try:
        net = net_of(message)
    except UnicodeDecodeError:
        raise ModelError(f"{path}: not a Caffe2 NetDef: a name in it is not UTF-8") from None
    if not net.operators:
        raise ModelError(f"{path}: not a Caffe2 NetDef, or cut short: there are no operators in it")
    return net


def _parsed(path: Path, data: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        net = messages().NetDef.FromString(data)
    except DecodeError:
        raise ModelError(f"{path}: not a Caffe2 NetDef, or cut short") from None
    net.DiscardUnknownFields()  # which would be written behind the known ones
    return net


def _parsed_text(path: Path, data: bytes) -> Any:
    from google.protobuf import text_format

    try:
        return text_format.Parse(data.decode(), messages().NetDef(), allow_unknown_field=True)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path}: not the text of a Caffe2 NetDef: {printable(reason)}") from None


def net_of(message: Any) -> Net:
    """A NetDef message as plain Python. Raises ModelError, and UnicodeDecodeError for a name that is not UTF-8."""
    if len(message.op) > _MOST_OPERATORS:
        raise ModelError(f"{len(message.op)} operators are more than the {_MOST_OPERATORS} that a net may have")
    operators = tuple(
        Operator(
            number=number,
            type=str(op.type),
            name=str(op.name),
            inputs=_names(op.input),
            outputs=_names(op.output),
            arguments=Arguments({str(argument.name): argument for argument in op.arg}),
        )
        for number, op in enumerate(message.op)
    )
    return Net(str(message.name), operators, _names(message.external_input), _names(message.external_output))


def _names(names: Sequence[Any]) -> tuple[str, ...]:
    return tuple(str(name) for name in names)
