"""Weights for a class of the user's, in torch.save's format or safetensors; and whole modules, which are pickles."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorwire._messages import TensorSpec
from tensorwire.servers.engines.options import ALLOW_PICKLE
from tensorwire.servers.engines.pt.archive import SAFETENSORS
from tensorwire.servers.engines.pt.program import Argument, Program, weights_of
from tensorwire.servers.model import ModelError

__all__ = ["load_weights"]

_WRAPPERS = ("state_dict", "model_state_dict")
_SHOWN = 3


def load_weights(path: Path, device: Any, *, format: str, module: Any, module_args: str, allow_pickle: bool) -> Program:
    """A module of ``module`` (a class or function that makes one, None: not given) with the weights in the file.

    ``module_args`` are the arguments of its constructor, as a JSON list or object. Without ``module`` the file is a
    whole module, a pickle, which takes ``allow_pickle``. Raises ModelError.
    """
    import torch

    found = _read_safetensors(path) if format == SAFETENSORS else _read(path, allow_pickle)
    if isinstance(found, torch.nn.Module):
        if module is not None:
            raise ModelError(f"{path}: holds a whole module, {type(found).__name__}; leave out the option module")
        made, facts = found, {"format": f"module {type(found).__name__} (pickle)"}
    else:
        weights = _state_dict(path, found)
        if module is None:
            raise ModelError(
                f"{path}: holds weights only ({_shown(weights)}): say of which class with --option module=package:Class"
            )
        made, facts = _made(path, module, module_args), {"format": f"state dict ({format})"}
        _fill(path, made, weights)
    made = made.to(device).eval()
    arguments = _arguments(made)
    return Program(
        forward=made,
        bind=(lambda tensors: (tuple(tensors.values()), {})) if arguments is None else (lambda tensors: ((), tensors)),
        arguments=arguments,
        facts={**facts, **weights_of(made)[0]},
    )


def _read_safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise ModelError(f"{path}: reading it takes the package safetensors; run: pip install safetensors") from None
    try:
        return load_file(path)
    except Exception as error:
        raise ModelError(f"{path}: damaged, or cut short: {' '.join(str(error).split())}") from error


def _read(path: Path, allow_pickle: bool) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except Exception as error:
        text = " ".join(str(error).split())
        foreign = re.search(r"[Uu]nsupported (?:global: GLOBAL|GLOBAL|class|operand) '?([\w.]+)", text)
        if not allow_pickle and "Weights only load failed" in text:
            what = f"objects of Python's ({foreign[1]})" if foreign else "more than weights"
            raise ModelError(
                f"{path}: holds {what}, which can run code of its maker's when they are read; if you trust the file,"
                f" allow it with {ALLOW_PICKLE}, else save its state_dict(), or export it with torch.export"
            ) from None
        if isinstance(error, AttributeError | ModuleNotFoundError):
            raise ModelError(f"{path}: a class that it was made of is not here: {text}") from error
        if "PytorchStreamReader" in text or isinstance(error, EOFError):
            raise ModelError(f"{path}: damaged, or cut short") from error
        raise ModelError(f"{path}: PyTorch {torch.__version__} cannot read it: {text[:300]}") from error


def _state_dict(path: Path, found: Any) -> dict[str, Any]:
    """The tensors by name, out of a checkpoint with other things beside them, without DataParallel's prefix."""
    import torch

    if isinstance(found, Mapping):
        for wrapper in _WRAPPERS:
            if isinstance(found.get(wrapper), Mapping):
                found = found[wrapper]
                break
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise ModelError(f"{path}: holds a {type(found).__name__}, neither a module nor a state dict")
    weights = dict(found)
    if not any(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ModelError(
            f"{path}: no weights in it: its keys are {', '.join(map(repr, list(weights)[:_SHOWN])) or 'none'}"
        )
    if all(name.startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): value for name, value in weights.items()}
    return weights


def _made(path: Path, module: Any, args: str) -> Any:
    import torch

    try:
        given = json.loads(args) if args else []
    except ValueError as error:
        raise ModelError(f"option module_args is no JSON: {error}") from None
    if not isinstance(given, list | dict):
        raise ModelError(f"option module_args is a JSON list or object, not {args}")
    try:
        made = module(**given) if isinstance(given, dict) else module(*given)
    except Exception as error:
        name = getattr(module, "__name__", module)
        raise ModelError(f"{path}: {name} raised {type(error).__name__}: {' '.join(str(error).split())}") from error
    if not isinstance(made, torch.nn.Module):
        raise ModelError(f"{path}: the option module made a {type(made).__name__}, not a torch.nn.Module")
    return made


def _fill(path: Path, module: Any, weights: dict[str, Any]) -> None:
    own = module.state_dict()
    for what, names in (
        ("has no {} for it", [name for name in own if name not in weights]),
        ("has {}, which it lacks", [name for name in weights if name not in own]),
    ):
        if names:
            listed = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
            raise ModelError(f"{path}: not the weights of {type(module).__name__}: the file {what.format(listed)}")
    for name, value in own.items():
        came = getattr(weights[name], "shape", None)
        if came is not None and hasattr(value, "shape") and came != value.shape:
            raise ModelError(
                f"{path}: not the weights of {type(module).__name__}: {name} is {list(came)} in the file,"
                f" {list(value.shape)} in the class"
            )
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(f"{path}: {' '.join(str(error).split())[:300]}") from error


def _arguments(module: Any) -> tuple[Argument, ...] | None:
    """What forward takes, by name; None when it takes anything."""
    found = []
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            return None
        required = parameter.default is parameter.empty
        found.append(Argument(parameter.name, TensorSpec(parameter.name), required))
    return tuple(found)


def _shown(weights: Mapping[str, Any]) -> str:
    name, value = next((name, value) for name, value in weights.items() if hasattr(value, "shape"))
    return f"{len(weights)} tensors such as {name!r} {list(value.shape)}"
