"""What a pickle says of itself, read without running any of it."""

from __future__ import annotations

import bz2
import io
import lzma
import pickletools
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tensorwire.servers.engines.xgboost_file import document_version, is_old, old_version

__all__ = ["Notes", "read_notes"]

_LOOKED_AT = 8 << 20  # bytes, unpacked
_HEAD = 1024
_MOST_NAMES = 8
_NAME = re.compile(r"[\w.]{1,200}")  # what others wrote is printed only when it looks like one
_PLUMBING = ("copy_reg._reconstructor", "copyreg._reconstructor", "__builtin__.object", "builtins.object")
# The name and the value of an attribute stand side by side, with a few opcodes between them.
_VERSION = re.compile(rb"_sklearn_version.{0,24}?(\d+\.\d+(?:\.\d+)?(?:\.?(?:dev|post|rc|a|b)\d+)?)", re.S)
_UNPACKERS: tuple[tuple[bytes, Callable[[], Any]], ...] = (
    (b"\x1f\x8b", lambda: zlib.decompressobj(31)),
    (b"x", zlib.decompressobj),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ", lzma.LZMADecompressor),
    (b"]\x00\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE)),
)


@dataclass(frozen=True, slots=True)
class Notes:
    """``names``: the first classes and functions that reading would import; ``sklearn``: the version that wrote it;
    ``xgboost``: the one that wrote a booster in it, as 'version 2.1.0'.
    """

    names: tuple[str, ...] = ()
    sklearn: str = ""
    xgboost: str = ""


def read_notes(path: Path) -> Notes:
    """Look at the first megabytes of a pickle or joblib file, compressed or not. Runs nothing, raises nothing."""
    try:
        data = _unpacked(path)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError):
        return Notes()
    found = _VERSION.search(data)
    names: dict[str, None] = {}
    for name in _names(data):
        if not _NAME.fullmatch(name) or name in _PLUMBING:
            continue
        names[name] = None
        if len(names) == _MOST_NAMES:
            break
    xgboost = _xgboost(data) if any(name.startswith("xgboost.") for name in names) else ""
    return Notes(tuple(names), found[1].decode() if found else "", xgboost)


def _unpacked(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_LOOKED_AT)
    for magic, make in _UNPACKERS:
        if data.startswith(magic):
            unpacked: bytes = make().decompress(data, _LOOKED_AT)
            return unpacked
    return data


def _xgboost(data: bytes) -> str:
    """Who wrote the booster in a pickle; empty where it cannot be told. Old pickles have its bytes as text."""
    if version := document_version(data):
        return f"version {version}"
    try:
        for _, found, _ in pickletools.genops(io.BytesIO(data)):
            argument = found.encode("latin-1", "replace") if isinstance(found, str) else found
            if not isinstance(argument, bytes | bytearray):
                continue
            if is_old(head := bytes(argument[:_HEAD])):
                return old_version(head)
            if version := document_version(bytes(argument)):
                return f"version {version}"
    except Exception:
        return ""
    return ""


def _names(data: bytes) -> Iterator[str]:
    """Names that opcodes import, up to where the file ends or, in a joblib file, an array's bytes begin."""
    texts: list[str] = []
    memo: dict[Any, str] = {}
    last = ""
    try:
        for opcode, found, _ in pickletools.genops(io.BytesIO(data)):
            name, argument = opcode.name, cast(Any, found)
            if name == "GLOBAL":
                yield argument.replace(" ", ".")
            elif name == "STACK_GLOBAL" and len(texts) > 1:
                yield ".".join(texts[-2:])
            elif name == "MEMOIZE":
                memo[len(memo)] = last
            elif "PUT" in name:
                memo[argument] = last
            elif "GET" in name:
                texts = [*texts[-1:], memo.get(argument, "")]
            last = argument if isinstance(argument, str) else ""
            if last:
                texts = [*texts[-1:], last]
    except Exception:
        return
