"""Whether a file of torch.export's could run code of its maker's while it is read.

torch.export.load unpickles without bounds, evaluates the text of shape expressions and guards as Python, takes
functions from anywhere below the module torch, and puts names into code that it generates; PyTorch says never to load a
file from an untrusted source: https://docs.pytorch.org/docs/stable/export/api_reference.html#torch.export.load
So what is not known to be harmless is refused here, before anything else reads the file. What remains is still a
program, of PyTorch's own operators, as a TorchScript module is.
"""

from __future__ import annotations

import ast
import io
import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorwire.servers.model import ModelError

__all__ = ["Unsafe", "check_archive", "check_program"]

_NAME = re.compile(r"[\w.$:/+\-]*")
_SPECIAL = re.compile(r"(^|\.)__\w+__(\.|$)")
_OPERATOR = re.compile(
    r"torch\.ops\.((?!__)\w+\.(?!__)\w+|aten\.__(i?and|i?or|i?xor|i?lshift|i?rshift)__)(\.(?!__)\w+)?"
)
_NUMBERS = re.compile(r"math\.(?!_)\w+|torch\._?sym_\w+")
_PYTHON = re.compile(
    r"_operator\.(abs|add|and_|ceil|eq|floordiv|ge|getitem|gt|index|is_|is_not|le|lshift|lt|matmul|mod|mul|ne|neg|not_|or_"
    r"|pos|pow|rshift|sub|truediv|truth|xor)"
)
_FILES = frozenset(("from_file", "save", "load"))  # operators that read or write files
_FREE_TEXT = frozenset(("metadata", "as_string", "as_strings"))  # values that stay values

# What torch writes of sympy, of torch.utils._sympy.functions, and of Python's builtins.
_FUNCTIONS = re.compile(
    r"Abs|Add|And|Eq|Equality|Float|Ge|GreaterThan|Gt|Integer|Le|LessThan|Lt|Max|Min|Mod|Mul|Ne|Not|Or|Piecewise|Pow"
    r"|Rational|StrictGreaterThan|StrictLessThan|Symbol|Unequality|Xor|ceiling|floor|sqrt|log|exp"
    r"|BitwiseFn_bitwise_and|BitwiseFn_bitwise_or|CeilDiv|CeilToInt|CleanDiv|FloatPow|FloatTrueDiv|FloorDiv|FloorToInt"
    r"|Identity|IntTrueDiv|IsNonOverlappingAndDenseIndicator|LShift|ModularIndexing|PowByNatural|PythonMod|RShift"
    r"|RoundDecimal|RoundToInt|ToFloat|TruncToFloat|TruncToInt|Where|abs|float|int|max|min|round"
)
_METHODS = frozenset(("dim", "item", "ndimension", "numel", "size", "storage_offset", "stride"))
_NODES = (
    ast.Expression, ast.Compare, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Constant, ast.Name, ast.Subscript, ast.Tuple,
    ast.keyword, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context,
)  # fmt: skip


class Unsafe(Exception):
    """What in the file could run code."""


def check_archive(path: Path) -> None:
    """Raises Unsafe, ModelError for a missing operator, and what the archive's reader raises for a damaged one."""
    import torch

    if _has_old_layout(path):
        raise Unsafe("it has the layout of PyTorch 2.7 and older; save it again with a newer one")
    # The reader that torch itself uses: another could see other entries in the same bytes.
    try:
        reader = torch._C.PyTorchFileReader(str(path))
        names = reader.get_all_records()
        read: Callable[[str], bytes] = reader.get_record
    except RuntimeError as error:
        raise ModelError("damaged, or cut short") from error
    targets: set[str] = set()
    for name in names:
        if name.startswith("data/aotinductor/"):
            raise Unsafe("it holds compiled code")
        if name.startswith("models/"):
            targets |= check_program(_json(name, read(name)))
        elif name.endswith("_config.json"):
            for payload in _payloads(name, read(name)):
                _check_payload(name.rpartition("/")[0], payload, read)
        elif name.endswith(".pt"):
            _check_pickle(name, read(name))
    _check_operators(targets)


def _has_old_layout(path: Path) -> bool:
    """What torch falls back to, and by which other reader, when the new layout does not load."""
    with zipfile.ZipFile(path) as archive:
        return "version" in archive.namelist()


def check_program(program: Any) -> set[str]:
    """Check a serialized ExportedProgram; returns the functions that its graph calls. Raises Unsafe."""
    targets: set[str] = set()
    _walk(program, "", targets)
    return targets


def _walk(node: Any, key: str, targets: set[str]) -> None:
    if isinstance(node, dict):
        for name, value in node.items():
            _check_name(name)
            if name not in _FREE_TEXT:
                _walk(value, name, targets)
    elif isinstance(node, list):
        for value in node:
            _walk(value, key, targets)
    elif isinstance(node, str):
        if key in ("target", "as_operator"):
            _check_target(node)
            targets.add(node)
        elif key in ("expr_str", "guards_code"):
            _check_expression(node)
        elif key in ("in_spec", "out_spec"):
            _check_tree(node)
        else:
            _check_name(node)


def _check_name(text: str) -> None:
    if not _NAME.fullmatch(text) or _SPECIAL.search(text):
        raise Unsafe(f"{_cut(text)} is no name")


def _check_target(text: str) -> None:
    if _PYTHON.fullmatch(text) or _NUMBERS.fullmatch(text):
        return
    if not _OPERATOR.fullmatch(text) or text.split(".")[3] in _FILES:
        raise Unsafe(f"it calls {_cut(text)}")


def _check_expression(text: str) -> None:
    """Arithmetic, on symbols of sizes and sizes of inputs."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise Unsafe(f"{_cut(text)} is no expression of sizes") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            known = isinstance(called, ast.Name) and _FUNCTIONS.fullmatch(called.id)
            if not known and not (isinstance(called, ast.Attribute) and _plain_attribute(called)):
                raise Unsafe(f"{_cut(text)} is no expression of sizes")
        elif isinstance(node, ast.Constant):
            if not isinstance(node.value, int | float | str) or (
                isinstance(node.value, str) and not _is_name(node.value)
            ):
                raise Unsafe(f"{_cut(text)} is no expression of sizes")
        elif isinstance(node, ast.Name):
            if node.id.startswith("__"):
                raise Unsafe(f"{_cut(text)} is no expression of sizes")
        elif not isinstance(node, _NODES) and not (isinstance(node, ast.Attribute) and _plain_attribute(node)):
            raise Unsafe(f"{_cut(text)} is no expression of sizes")


def _plain_attribute(node: ast.Attribute) -> bool:
    """A tensor's size and the like, or a function of math's or of torch's on numbers."""
    if isinstance(node.value, ast.Name) and node.value.id in ("math", "torch"):
        return bool(_NUMBERS.fullmatch(f"{node.value.id}.{node.attr}"))
    return node.attr in _METHODS


def _is_name(text: str) -> bool:
    return len(text) < 100 and _NAME.fullmatch(text) is not None and "__" not in text


def _check_tree(text: str) -> None:
    """A pytree's structure: JSON in text, several deep. An enum in it names a function to be imported and called."""
    try:
        node = json.loads(text)
    except (ValueError, RecursionError):
        return
    _walk_tree(node)


def _walk_tree(node: Any) -> None:
    if isinstance(node, dict):
        if "__enum__" in node:
            raise Unsafe("the structure of its arguments names a class to be imported")
        node = [*node.keys(), *node.values()]
    if isinstance(node, list):
        for value in node:
            _walk_tree(value)
    elif isinstance(node, str):
        _check_tree(node)


def _payloads(name: str, data: bytes) -> list[dict[str, Any]]:
    config = _json(name, data).get("config")
    if not isinstance(config, dict) or not all(isinstance(payload, dict) for payload in config.values()):
        raise ModelError(f"{name} in it is no list of tensors")
    _walk(config, "", set())
    return list(config.values())


def _check_payload(folder: str, payload: dict[str, Any], read: Callable[[str], bytes]) -> None:
    file = str(payload.get("path_name"))
    if file.startswith(("custom_obj_", "opaque_obj_")):
        raise Unsafe("it holds objects of classes of its own")
    if payload.get("use_pickle"):
        _check_pickle(file, read(os.path.join(folder, file)))  # noqa: PTH118 - as torch does, for names that begin with /


def _check_pickle(name: str, data: bytes) -> None:
    import torch

    try:
        torch.load(io.BytesIO(data), weights_only=True)
    except Exception as error:
        raise Unsafe(f"{_cut(name)} in it is a pickle of more than tensors") from error


def _check_operators(targets: set[str]) -> None:
    import torch

    for target in sorted(targets):
        _, _, inner = target.partition("torch.ops.")
        found: Any = torch.ops
        for part in inner.split(".") if inner else ():
            found = getattr(found, part, None)
            if found is None:
                raise ModelError(
                    f"needs the operator {inner.replace('.', '::', 1)}, which PyTorch {torch.__version__} does not"
                    " have; if a library brings it, name that with --custom-op-path"
                )


def _json(name: str, data: bytes) -> Any:
    try:
        found = json.loads(data.decode())
    except (ValueError, RecursionError):
        raise ModelError(f"damaged: {name} in it is not JSON") from None
    if not isinstance(found, dict):
        raise ModelError(f"damaged: {name} in it is no table")
    return found


def _cut(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
