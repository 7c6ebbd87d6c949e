"""What the head of an ONNX file says of its origin, read without an ONNX library.

The file is a protocol buffer, ModelProto of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; its small
top-level fields are read, the graph is skipped.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import BinaryIO

__all__ = ["onnx_facts"]

_IR_VERSION, _PRODUCER_NAME, _PRODUCER_VERSION, _OPSET_IMPORT = 1, 2, 3, 8
_WANTED = (_PRODUCER_NAME, _PRODUCER_VERSION, _OPSET_IMPORT)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST = 4096  # bytes of a field worth reading


def onnx_facts(path: Path) -> dict[str, str]:
    """Producer, opsets and IR version, as far as the file gives them; {} when it is no protocol buffer."""
    facts: dict[str, str] = {}
    producer: dict[int, str] = {}
    opsets: list[str] = []
    try:
        with path.open("rb") as file:
            while (key := _varint(file)) is not None:
                number, kind = key >> 3, key & 7
                value = _field(file, kind, wanted=number in _WANTED)
                if number == _IR_VERSION and isinstance(value, int):
                    facts["IR version"] = str(value)
                elif number in (_PRODUCER_NAME, _PRODUCER_VERSION) and isinstance(value, bytes):
                    producer[number] = value.decode("utf-8", "replace")
                elif number == _OPSET_IMPORT and isinstance(value, bytes):
                    opsets.append(_opset(value))
    except (ValueError, OSError):
        return {}
    if producer:
        facts["producer"] = " ".join(producer[number] for number in sorted(producer)).strip()
    if opsets:
        facts["opset"] = ", ".join(opsets)
    return facts


def _field(file: BinaryIO, kind: int, wanted: bool) -> int | bytes | None:
    """The value of a field, None when it is skipped."""
    if kind == _VARINT:
        return _varint(file)
    size = {_FIXED64: 8, _FIXED32: 4}.get(kind)
    if size is None:
        size = _varint(file) if kind == _BYTES else None
        if size is None:
            raise ValueError("not a protocol buffer")
    if wanted and size <= _LONGEST:
        return file.read(size)
    file.seek(size, 1)
    return None


def _varint(file: BinaryIO) -> int | None:
    """The next variable-length integer, None at the end of the file."""
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("not a protocol buffer")


def _opset(data: bytes) -> str:
    """An OperatorSetIdProto: its version, and its domain unless that is ONNX's own."""
    file = BytesIO(data)
    domain, version = "", 0
    while (key := _varint(file)) is not None:
        value = _field(file, key & 7, wanted=True)
        if key >> 3 == 1 and isinstance(value, bytes):
            domain = value.decode("utf-8", "replace")
        elif key >> 3 == 2 and isinstance(value, int):
            version = value
    return f"{version} of {domain}" if domain not in ("", "ai.onnx") else str(version)
