"""A Python function as a model, and as one signature of one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tensorwire._messages import TensorSpec
from tensorwire.servers.engines.annotations import is_mapping, output_specs, tensor_spec, type_hints
from tensorwire.servers.model import DEFAULT_SIGNATURE, Array, Model, ModelError, Signature

__all__ = ["Call", "FunctionModel", "first_line", "parameters_of"]

Function = Callable[[dict[str, Array]], Any]
_Parameters = Mapping[str, inspect.Parameter]

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Call:
    """A callable as a signature: how its arguments are made of inputs, and its result into outputs.

    With tensors in its annotations, with two parameters or more, or with parameters of the names in ``inputs``, it
    gets each input as the parameter of that name; else one dict of all inputs by name (those that came without names
    are "0", "1", ...). ``inputs`` and ``outputs`` come before the annotations; None leaves it to them, and a side of
    which nothing speaks is not checked. ``instead`` is called in place of ``fn``, whose parameters it takes. Raises
    ModelError when the parameters and the inputs do not fit together.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        inputs: Sequence[TensorSpec] | None = None,
        outputs: Sequence[TensorSpec] | None = None,
        *,
        instead: Callable[..., Any] | None = None,
    ) -> None:
        self._fn = instead or fn
        parameters = parameters_of(fn)
        hints = type_hints(fn) if parameters is not None else {}
        self._by_name = False
        if parameters is not None:
            self._by_name, inputs = _inputs(parameters, hints, inputs or ())
        if outputs is None:
            outputs = output_specs(hints.get("return"))
        self.inputs = tuple(inputs or ())
        self.outputs = tuple(outputs or ())
        self._names = tuple(spec.name for spec in self.outputs)

    def signature(self, name: str) -> Signature:
        """The signature under a name; a side without specs is undeclared."""
        return Signature(name, self.inputs, self.outputs, open=True)

    def __call__(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Any]:
        """What it returns, by name (not copied): a mapping, several in a list or tuple, or one array or number.

        Those without a name get the declared names when these are as many, or else the names that the request asked
        for, or else "0", "1", ... Raises what it raises.
        """
        found = self._fn(**inputs) if self._by_name else self._fn(dict(inputs))
        if isinstance(found, Mapping):
            return found
        if hasattr(found, "_fields"):
            return dict(zip(found._fields, found, strict=True))
        values = found if isinstance(found, list | tuple) else (found,)
        if len(self._names) == 1 and isinstance(found, list) and not (len(found) == 1 and hasattr(found[0], "shape")):
            return {self._names[0]: found}  # the tensor itself, as a list of numbers
        for names in (self._names, outputs):
            if len(names) == len(values):
                return dict(zip(names, values, strict=True))
        return {str(i): value for i, value in enumerate(values)}


class FunctionModel(Model):
    """Calls ``fn`` as Call does: with its inputs by name in a dict, or as parameters where it declares them.

    ``inputs`` and ``outputs`` come before the annotations of ``fn``; a side of which nothing speaks is not checked.
    ``concurrency`` above 1 is for functions that may run in several threads at once; ``inline`` for those that take
    microseconds and never wait. Raises ModelError when the parameters and the inputs do not fit together.
    """

    version = "1"

    def __init__(
        self,
        fn: Function,
        *,
        name: str = "",
        inputs: Sequence[TensorSpec] | None = None,
        outputs: Sequence[TensorSpec] | None = None,
        description: str = "",
        concurrency: int = 1,
        inline: bool = False,
    ) -> None:
        own_name = getattr(fn, "__name__", type(fn).__name__)
        self.name = name or ("function" if own_name == "<lambda>" else own_name)
        self.description = description or first_line(getattr(fn, "__doc__", None))
        self.engine = "function"
        self.concurrency = concurrency
        self.inline = inline
        self._call = Call(fn, inputs, outputs)
        self.signatures = {DEFAULT_SIGNATURE: self._call.signature(DEFAULT_SIGNATURE)}

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Any]:
        """What the function returns, by name (not copied). Raises what the function raises."""
        return self._call(inputs, outputs)


def first_line(doc: str | None) -> str:
    """What a docstring says in its first line."""
    return doc.strip().partition("\n")[0].strip() if doc else ""


def parameters_of(fn: Callable[..., Any]) -> _Parameters | None:
    """The parameters by name; None for a builtin that does not tell."""
    try:
        return inspect.signature(fn).parameters
    except (TypeError, ValueError):
        return None


def _inputs(
    parameters: _Parameters, hints: Mapping[str, Any], declared: Sequence[TensorSpec]
) -> tuple[bool, Sequence[TensorSpec]]:
    """Whether each input is passed as a parameter of its name, and the specs of the inputs."""
    named = {name: p for name, p in parameters.items() if p.kind in _NAMED}
    needed = [name for name, p in named.items() if p.default is p.empty]
    rest = {p.kind for p in parameters.values()} - {p.kind for p in named.values()}
    if not named and not rest:
        raise ModelError("it has no parameters: a model gets its inputs, as one dict or as parameters of their names")
    if declared:
        names = {spec.name for spec in declared}
        fits = names >= set(needed) and (names <= set(named) or inspect.Parameter.VAR_KEYWORD in rest)
        if fits and not (len(needed) == 1 and is_mapping(hints.get(needed[0]))):
            return True, declared
        if len(needed) < 2:
            return False, declared
        raise ModelError(f"its parameters are {', '.join(named)}, its declared inputs {', '.join(sorted(names))}")
    specs = {name: tensor_spec(hints.get(name), name) for name in named}
    if any(specs.values()) or len(needed) > 1:
        return True, [_input(p, specs[name], hints) for name, p in named.items() if specs[name] or name in needed]
    return not named and inspect.Parameter.VAR_KEYWORD in rest, ()


def _input(parameter: inspect.Parameter, spec: TensorSpec | None, hints: Mapping[str, Any]) -> TensorSpec:
    """The spec of a parameter that is an input; one without an annotation is any tensor."""
    name = parameter.name
    hint = hints.get(name, Any)
    if spec is None and hint is not Any:
        raise ModelError(f"parameter {name!r} is annotated as {hint}: inputs are numpy arrays")
    if parameter.default is not parameter.empty:
        raise ModelError(f"parameter {name!r} has a default: every input of a signature must be sent")
    if spec is not None and spec.name != name:
        raise ModelError(f"parameter {name!r} is declared under another name: {spec.name!r}")
    return spec or TensorSpec(name)
