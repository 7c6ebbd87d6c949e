"""Whether a file looks like a NetDef, by its first bytes; and which file of a folder is which net."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["init_net_beside", "is_netdef", "predict_net_in"]

_PREDICT, _INIT = "predict_net", "init_net"
_SUFFIXES = (".pb", ".pbtxt", ".prototxt")
_HEAD = 2**16
_NET_OP, _OP_TYPE = 2, 4
_OP_TEXT = re.compile(r"^\s*op\s*:?\s*\{", re.M)
_TYPE_TEXT = re.compile(r'^\s*type\s*:\s*"\w+"', re.M)


def is_netdef(path: Path) -> bool:
    """Reads the head of the file: somewhere in it is an operator with a type. Raises OSError."""
    if path.suffix.lower() not in _SUFFIXES:
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if path.suffix.lower() != ".pb":
        text = head.decode("utf-8", "replace")
        return bool(_OP_TEXT.search(text) and _TYPE_TEXT.search(text))
    for number, operator in _fields(head):
        if number == _NET_OP:
            kinds = [value for inner, value in _fields(operator) if inner == _OP_TYPE]
            return bool(kinds) and re.fullmatch(rb"[A-Za-z]\w*", kinds[0]) is not None
    return False


def predict_net_in(folder: Path) -> Path | None:
    """The predict net of a folder: the file of that name, or the only one with that in its name. Raises OSError."""
    found = [path for path in sorted(folder.iterdir()) if _PREDICT in path.name and path.suffix in _SUFFIXES]
    exact = [path for path in found if path.stem == _PREDICT]
    return exact[0] if exact else found[0] if len(found) == 1 else None


def init_net_beside(predict_net: Path) -> Path | None:
    """The init net in the same folder: of the same name but for that word, binary or text."""
    stem = predict_net.stem.replace(_PREDICT, _INIT) if _PREDICT in predict_net.stem else _INIT
    for suffix in (predict_net.suffix, *_SUFFIXES):
        found = predict_net.with_name(stem + suffix)
        if found.is_file() and found != predict_net:
            return found
    return None


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of a protocol buffer's fields that have a length, as far as the data makes sense."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            _, at = _varint(data, at)
        elif kind == 2:
            length, at = _varint(data, at)
            yield number, data[at : at + length]
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            return
        if not number or at < 0:
            return


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number, and where the next field is; the end of the data when it is cut."""
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    return 0, len(data)
