"""TorchScript: a module with its code, as torch.jit.save writes it.

What unpickles the archive is written in C++ and makes only TorchScript's own values, so no Python of the file's is run.
The code in it is a program all the same, with operators that read and write files, and PyTorch says to trust it as one:
https://github.com/pytorch/pytorch/blob/main/SECURITY.md#torchscript-models
"""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tensorwire._messages import TensorSpec
from tensorwire.servers.engines.pt.build import without_deprecations
from tensorwire.servers.engines.pt.program import Argument, Program, weights_of
from tensorwire.servers.engines.pt.tensors import CpuTensors
from tensorwire.servers.model import ModelError, RequestError

__all__ = ["load_scripted"]

_NUMBERS: dict[str, tuple[type, type]] = {
    "IntType": (int, np.int64),
    "FloatType": (float, np.float64),
    "BoolType": (bool, np.bool_),
}
_STORAGES = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
}  # fmt: skip
_LARGEST_EXAMPLE = 1 << 20  # bytes of a pickle that holds only the shapes of tensors


def load_scripted(path: Path, device: Any, tensors: CpuTensors) -> Program:
    """Raises ModelError: damaged, made by a newer PyTorch, a missing operator, arguments that are no tensors."""
    import torch

    try:
        with without_deprecations():
            module = torch.jit.load(str(path), map_location=device)
    except Exception as error:
        raise ModelError(f"{path}: {_load_failure(str(error), torch.__version__)}") from error
    if not hasattr(module, "forward"):
        raise ModelError(f"{path}: the TorchScript module has no forward")
    module.eval()
    schema = module.forward.schema
    examples = _examples(path)
    trees: dict[str, Any] = {}
    arguments: list[Argument] = []
    for place, argument in enumerate(schema.arguments[1:]):
        optional = argument.has_default_value()
        try:
            tree = _tree(argument.name, argument.type)
        except ModelError as error:
            if optional:
                continue
            raise ModelError(f"{path}: {error}") from None
        trees[argument.name] = tree
        example = examples[place] if place < len(examples) else None
        arguments += [Argument(leaf.name, _spec(leaf, example, tensors), not optional) for leaf in _leaves(tree)]
    outputs = [leaf for value in schema.returns for leaf in _outputs(value.type, "")]
    return Program(
        forward=module,
        bind=lambda tensors: ((), _keywords(trees, tensors)),
        arguments=tuple(arguments),
        outputs=() if None in outputs else tuple(TensorSpec(name) for name in outputs if name),
        written=_written(module, trees),
        facts={"format": "TorchScript", **weights_of(module)[0]},
    )


class _Leaf:
    """One tensor, or one number that is sent as one, among a module's arguments."""

    __slots__ = ("name", "number")

    def __init__(self, name: str, number: str) -> None:
        self.name = name
        self.number = number

    def value(self, tensors: dict[str, Any]) -> Any:
        tensor = tensors[self.name]
        if not self.number:
            return tensor
        if tensor.numel() != 1:
            raise RequestError(400, f"input {self.name!r} is one number, shape {list(tensor.shape)} came")
        return _NUMBERS[self.number][0](tensor.item())


def _tree(name: str, kind: Any) -> Any:
    """An argument's type as a leaf, or a tuple of trees. Raises ModelError for types that are no tensors."""
    of = kind.kind()
    if of == "OptionalType":
        return _tree(name, kind.getElementType())
    if of == "TensorType" or of in _NUMBERS:
        return _Leaf(name, "" if of == "TensorType" else of)
    if of == "TupleType":
        return tuple(_tree(f"{name}_{place}", inner) for place, inner in enumerate(kind.elements()))
    raise ModelError(f"argument {name!r} is a {kind}, which cannot be sent as a tensor")


def _leaves(tree: Any) -> Iterator[_Leaf]:
    if isinstance(tree, _Leaf):
        yield tree
        return
    for inner in tree:
        yield from _leaves(inner)


def _value(tree: Any, tensors: dict[str, Any]) -> Any:
    return tree.value(tensors) if isinstance(tree, _Leaf) else tuple(_value(inner, tensors) for inner in tree)


def _keywords(trees: Mapping[str, Any], tensors: dict[str, Any]) -> dict[str, Any]:
    """The module's arguments; those of which no tensor came keep their defaults."""
    return {
        name: _value(tree, tensors)
        for name, tree in trees.items()
        if any(leaf.name in tensors for leaf in _leaves(tree))
    }


def _spec(leaf: _Leaf, example: Any, tensors: CpuTensors) -> TensorSpec:
    if leaf.number:
        return TensorSpec(leaf.name, _NUMBERS[leaf.number][1])
    if isinstance(example, _Example):
        # The sizes are one example's, which may differ in any dimension.
        return TensorSpec(leaf.name, tensors.dtype(example.dtype), [-1] * example.rank)
    return TensorSpec(leaf.name)


def _outputs(kind: Any, name: str) -> Iterator[str | None]:
    """Names as ``outputs.flat`` will give them, None where only a result can tell."""
    of = kind.kind()
    if of == "TensorType" or of in _NUMBERS:
        yield name or "output"
    elif of == "TupleType" and not kind.annotation_str.startswith(
        "__torch__."
    ):  # a NamedTuple does not tell its fields
        for place, inner in enumerate(kind.elements()):
            yield from _outputs(inner, f"{name or 'output'}_{place}")
    else:
        yield None


def _written(module: Any, trees: Mapping[str, Any]) -> frozenset[str]:
    """The leaves that the code may write to, by TorchScript's own analysis of what is an alias of what."""
    graph = module.inlined_graph
    aliases = graph.alias_db()
    values = list(graph.inputs())[1:]
    found = []
    for value, (_, tree) in zip(values, trees.items(), strict=False):
        if aliases.has_writers(value):
            found += [leaf.name for leaf in _leaves(tree)]
    return frozenset(found)


class _Example:
    """A tensor that a module was traced with: its torch.dtype and rank."""

    def __init__(self, dtype: Any, rank: int) -> None:
        self.dtype = dtype
        self.rank = rank


class _Examples(pickle.Unpickler):
    """Reads what torch.jit.trace keeps of its example inputs; nothing but the functions below can be called."""

    def find_class(self, module: str, name: str) -> Any:
        import torch

        if (module, name) == ("torch.jit._pickle", "restore_type_tag"):
            return lambda value, _: value
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda dtype, _offset, sizes, *_: _Example(dtype, len(sizes))
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch" and name.removesuffix("Storage") in _STORAGES:
            return getattr(torch, _STORAGES[name.removesuffix("Storage")])
        raise pickle.UnpicklingError(f"{module}.{name} in traced inputs")

    def persistent_load(self, pid: Any) -> Any:
        return pid[1]


def _examples(path: Path) -> list[Any]:
    """The inputs that a traced module was made with; none for a scripted one."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.partition("/")[2] == "traced_inputs.pkl")
            if archive.getinfo(name).file_size > _LARGEST_EXAMPLE:
                return []
            found = _Examples(io.BytesIO(archive.read(name))).load()
        examples = found["forward"]
    except Exception:  # it is only a help, and what a damaged pickle raises has no end
        return []
    return examples if isinstance(examples, list) else []


def _load_failure(text: str, version: str) -> str:
    missing = re.search(r"Unknown builtin op: (\S+)\.", text)
    if missing:
        return (
            f"needs the operator {missing[1]}, which PyTorch {version} does not have; if a library brings it, name that"
            " with --custom-op-path"
        )
    newer = re.search(r"expected to be at most (\d+), but got (\d+)|version_number (\d+)", text)
    if newer:
        return f"made by a newer PyTorch than {version}: {' '.join(text.split())[:200]}"
    if "PytorchStreamReader" in text or "not a ZIP archive" in text:
        return "damaged, or cut short"
    return f"PyTorch {version} cannot load it: {' '.join(text.split())[:300]}"
