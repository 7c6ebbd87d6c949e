"""A loaded module and how it is called: what every format of PyTorch's is turned into."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tensorwire._messages import TensorSpec
from tensorwire.servers.engines.signature_file import Declared
from tensorwire.servers.model import ModelError

__all__ = ["Argument", "Program", "weights_of"]

Call = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Argument:
    """One tensor that a module takes. ``key`` is what ``bind`` calls it, the spec's name what requests call it."""

    key: str
    spec: TensorSpec
    required: bool = True


@dataclass(frozen=True, slots=True)
class Program:
    """``forward(*args, **kwargs)`` where ``bind`` makes these of the tensors by their arguments' keys.

    ``arguments`` None and ``outputs`` () are not known. ``written`` names the arguments that the module writes to,
    None when that cannot be told before it runs. ``facts`` is for people.
    """

    forward: Any
    bind: Callable[[dict[str, Any]], Call]
    arguments: tuple[Argument, ...] | None
    outputs: tuple[TensorSpec, ...] = ()
    written: frozenset[str] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    description: str = ""

    def declared(self, said: Declared) -> Program:
        """The program with what the user says of it, which counts for more than what its file says.

        Names of arguments choose them, and leave out optional ones; other names rename the required ones by place.
        Raises ModelError when they do not fit.
        """
        arguments, outputs = self.arguments, self.outputs
        if said.inputs:
            arguments = _chosen(arguments, said.inputs)
        elif arguments is not None:
            arguments = tuple(argument for argument in arguments if argument.required)
        if said.outputs:
            if outputs and len(outputs) != len(said.outputs):
                raise ModelError(f"{len(said.outputs)} outputs are declared, the model has {_names(outputs)}")
            outputs = said.outputs
        return replace(self, arguments=arguments, outputs=outputs, description=said.description or self.description)


def weights_of(module: Any) -> tuple[dict[str, str], frozenset[int]]:
    """How many parameters a module has and their size, for people; and the addresses of all its tensors' memory."""
    parameters = list(module.parameters())
    tensors = [*parameters, *module.buffers()]
    count = sum(p.numel() for p in parameters)
    nbytes = sum(t.numel() * t.element_size() for t in tensors)
    owned = frozenset(t.untyped_storage().data_ptr() for t in tensors if t.numel())
    return {"parameters": f"{count:,}", "weights": f"{nbytes:,} bytes"}, owned


def _chosen(arguments: tuple[Argument, ...] | None, specs: tuple[TensorSpec, ...]) -> tuple[Argument, ...]:
    if arguments is None:
        return tuple(Argument(spec.name, spec) for spec in specs)
    known = {argument.key: argument for argument in arguments}
    required = [argument for argument in arguments if argument.required]
    if all(spec.name in known for spec in specs):
        given = {spec.name for spec in specs}
        missing = [argument.key for argument in required if argument.key not in given]
        if missing:
            raise ModelError(f"input {missing[0]!r} of the model is not declared: it takes {', '.join(known)}")
        return tuple(_told(known[spec.name], spec) for spec in specs)
    if len(specs) != len(required):
        raise ModelError(f"{len(specs)} inputs are declared, the model takes {_names([a.spec for a in required])}")
    return tuple(_told(argument, spec) for argument, spec in zip(required, specs, strict=True))


def _told(argument: Argument, spec: TensorSpec) -> Argument:
    """The argument under a declared spec; what that leaves open is as the model's file has it."""
    own = argument.spec
    return replace(
        argument,
        spec=TensorSpec(
            spec.name,
            own.dtype if spec.dtype is None else spec.dtype,
            spec.shape or own.shape,
            spec.description or own.description,
        ),
    )


def _names(specs: tuple[TensorSpec, ...] | list[TensorSpec]) -> str:
    return f"{len(specs)} ({', '.join(spec.name for spec in specs)})" if specs else "none"
