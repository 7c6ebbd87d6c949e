"""torch.export: a graph with its weights, as torch.export.save writes it."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorwire._messages import TensorSpec
from tensorwire.servers.engines.options import ALLOW_PICKLE
from tensorwire.servers.engines.pt.archive import exported_by
from tensorwire.servers.engines.pt.guard import Unsafe, check_archive
from tensorwire.servers.engines.pt.outputs import flat
from tensorwire.servers.engines.pt.program import Argument, Program, weights_of
from tensorwire.servers.engines.pt.tensors import CpuTensors
from tensorwire.servers.model import ModelError

__all__ = ["load_exported"]


def load_exported(path: Path, device: Any, tensors: CpuTensors, allow_pickle: bool) -> Program:
    """Raises ModelError: damaged, made by another version, a missing operator, and unless ``allow_pickle``, a file that
    could run code of its maker's while it is read.
    """
    import torch

    try:
        if not allow_pickle:
            check_archive(path)
        return _program(path, device, tensors)
    except Unsafe as error:
        raise ModelError(
            f"{path}: could run code of its maker's: {error}; if you trust the file, allow it with {ALLOW_PICKLE}"
        ) from None
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    except Exception as error:
        raise ModelError(f"{path}: {_load_failure(error, torch.__version__)}") from error


def _program(path: Path, device: Any, tensors: CpuTensors) -> Program:
    import torch

    exported = _load(path)
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        exported = move_to_device_pass(exported, device)
    module = exported.module()
    takes, fixed = _inputs(exported, tensors)
    keys = exported.graph_signature.user_inputs
    in_spec = exported.call_spec.in_spec

    def bind(given: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        leaves = [given[key] if key in given else fixed[place] for place, key in enumerate(keys)]
        args, kwargs = torch.utils._pytree.tree_unflatten(leaves, in_spec)
        return args, kwargs

    return Program(
        forward=module,
        bind=bind,
        arguments=tuple(takes),
        outputs=tuple(_outputs(exported, tensors)),
        written=_written(exported),
        facts={"format": "torch.export", "producer": _producer(path), **weights_of(module)[0]},
    )


def _producer(path: Path) -> str:
    version = exported_by(path)
    return f"PyTorch {version}" if version else ""


def _inputs(exported: Any, tensors: CpuTensors) -> tuple[list[Argument], dict[int, Any]]:
    """The tensors among a program's inputs; and by place the others, which are as they were when it was exported."""
    takes, fixed = [], {}
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes if node.op == "placeholder"}
    for place, key in enumerate(exported.graph_signature.user_inputs):
        value = values.get(key) if isinstance(key, str) else None
        if value is not None and hasattr(value, "shape"):
            takes.append(Argument(key, _spec(key, value, tensors)))
        elif isinstance(key, str) and type(value).__name__ in ("SymInt", "SymFloat", "SymBool"):
            raise ModelError(
                f"input {key!r} is a number of any value, which cannot be sent as a tensor; export it as one"
            )
        else:
            fixed[place] = value if isinstance(key, str) else key
    return takes, fixed


def _outputs(exported: Any, tensors: CpuTensors) -> Iterator[TensorSpec]:
    from torch.utils import _pytree as pytree

    results = next(node for node in exported.graph.nodes if node.op == "output").args[0]
    own = results[len(results) - len(exported.graph_signature.user_outputs) :]
    values = [getattr(result, "meta", {}).get("val", result) for result in own]
    # Numbers in place of the values: a tree of these shows where each of them goes.
    for name, place in flat(pytree.tree_unflatten([_Place(i) for i in range(len(own))], exported.call_spec.out_spec)):
        value = values[place.index]
        if value is not None:
            yield _spec(name, value, tensors) if hasattr(value, "dtype") else TensorSpec(name)


def _written(exported: Any) -> frozenset[str]:
    """The inputs that an operator writes to, itself or through a view, by what the operators' schemas say."""
    written = set(exported.graph_signature.user_inputs_to_mutate.values())
    inputs = set(exported.graph_signature.user_inputs)
    views: dict[Any, set[str]] = {}  # of which inputs a value may be a view
    for node in exported.graph.nodes:
        if node.op == "placeholder":
            views[node] = {node.name} & inputs
            continue
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            views[node] = set().union(*(views.get(value, ()) for value in node.all_input_nodes))
            continue
        views[node] = set()
        for place, argument in enumerate(schema.arguments):
            value = node.args[place] if place < len(node.args) else node.kwargs.get(argument.name)
            if argument.alias_info is None:
                continue
            for tensor in value if isinstance(value, list | tuple) else (value,):
                views[node] |= views.get(tensor, set())
                if argument.alias_info.is_write:
                    written |= views.get(tensor, set())
    return frozenset(written)


class _Place:
    def __init__(self, index: int) -> None:
        self.index = index


def _spec(name: str, value: Any, tensors: CpuTensors) -> TensorSpec:
    """A spec of a fake tensor; a size that is no plain number is a dynamic one."""
    return TensorSpec(name, tensors.dtype(value.dtype), [size if type(size) is int else -1 for size in value.shape])


class _Overheard(logging.Handler):
    """The error that torch only logs before it raises one that says to look into the log."""

    def __init__(self) -> None:
        super().__init__()
        self.error: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.error = self.error or record.exc_info[1]


def _load(path: Path) -> Any:
    """The ExportedProgram; nothing is logged."""
    import torch

    overheard = _Overheard()
    logger = logging.getLogger("torch.export")
    handlers, propagate = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [overheard], False
    try:
        with path.open("rb") as file:
            return torch.export.load(file)
    except Exception as error:
        raise overheard.error or error from None
    finally:
        logger.handlers, logger.propagate = handlers, propagate


def _load_failure(error: Exception, version: str) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, zipfile.BadZipFile) or "PytorchStreamReader" in text:
        return "damaged, or cut short"
    return f"PyTorch {version} cannot load it: {type(error).__name__}: {text[:300]}"
