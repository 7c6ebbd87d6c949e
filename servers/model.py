"""What a model is: named signatures, and a ``run`` from arrays to arrays. Every engine makes one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from numpy.typing import NDArray

from tensorwire._messages import TensorSpec
from tensorwire.errors import TensorwireError

__all__ = [
    "DEFAULT_SIGNATURE",
    "Array",
    "Engine",
    "Model",
    "ModelError",
    "ModelFailure",
    "RequestError",
    "Signature",
    "failure_text",
    "quoted",
]

DEFAULT_SIGNATURE = "serving_default"
"""The signature of a model that has only one, under TensorFlow's name for it."""

Array = NDArray[Any]

_LONGEST_NAME = 80
_LONGEST_REASON = 500


class ModelError(TensorwireError):
    """A model cannot be loaded; the text is one line that says which file, why, and what to do."""


class ModelFailure(Exception):
    """A model has failed at a request; the text says all that there is to say, for the client's eyes."""


class RequestError(TensorwireError):
    """One request cannot be answered.

    ``code``: 400 the request does not fit the model, 404 there is no such model, version or output, 500 the
    model failed, 503 the server cannot take the request now, 504 the deadline has passed. ``message``: the
    reason, for the client's eyes.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} (code {self.code})"


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to call a model: the tensors that it takes and gives, in the model's order.

    A spec's dtype None means any dtype, -1 in its shape a dimension of any size. An empty shape is not
    checked, since model formats write a scalar and an undeclared rank alike; the model itself judges.

    ``open``: a side (inputs, outputs) without specs is undeclared rather than empty, and anything goes there:
    tensors of any number, name, dtype and shape. Unnamed inputs of an undeclared side are called "0", "1",
    ...

    ``aliases``: other names that a request may use for a tensor, with the declared name of each.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    open: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def any_inputs(self) -> bool:
        """The inputs are undeclared."""
        return self.open and not self.inputs

    @property
    def any_outputs(self) -> bool:
        """The outputs are undeclared."""
        return self.open and not self.outputs


class Model(ABC):
    """A loaded model. Subclasses set ``name`` and ``signatures``, and the other attributes where the default
    is wrong.

    ``engine`` names the software for people, such as 'onnxruntime 1.31.1 (CPU)'. ``inline`` says that ``run``
    takes microseconds, never blocks, and may run on the event loop's thread. ``concurrency`` is how many
    ``run`` calls may be under way at once, in as many threads; ``run`` must be safe for that many.
    ``exact`` is False where what the file declares is known to be wrong at times: a result of another shape is then
    sent as it is, and logged once; otherwise it is the model's failure.
    ``device`` is where it computes: 'cpu', 'cuda:0'. ``facts`` is what else people may want to know of the file,
    by name: producer, opset, build; ``tensorwire inspect`` shows it.
    """

    name: str
    version: str = "1"
    description: str = ""
    engine: str = ""
    signatures: Mapping[str, Signature]
    default_signature: str = DEFAULT_SIGNATURE
    inline: bool = False
    concurrency: int = 1
    exact: bool = True
    device: str = "cpu"
    facts: Mapping[str, str] = MappingProxyType({})

    @property
    def ready(self) -> bool:
        """False while the model cannot take requests, and will again."""
        return True

    @property
    def memory(self) -> int | None:
        """Bytes that it takes now in processes of its own; None when it lives in this one."""
        return None

    @property
    def status(self) -> str:
        """What people should know of its state now; empty when there is nothing."""
        return ""

    @abstractmethod
    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        """Compute outputs from inputs that fit the signature.

        ``inputs`` has every declared input, in the signature's order, and must not be written to. ``outputs``
        names the tensors wanted, each of them declared; it is empty only when the outputs are undeclared and
        the request named none. The result may hold more than was asked for; its arrays stay valid after later
        calls and after ``close``, and may be views of the inputs.

        Raises RequestError (400) for values that the model cannot take, anything else when the model fails.
        """

    def close(self) -> None:  # noqa: B027
        """Give back what the model holds; later calls of ``run`` may fail. Can be called twice."""


class Engine(Protocol):
    """What can load models of one framework. It exists without the framework, which only ``load`` imports."""

    @property
    def name(self) -> str:
        """The engine's name on the command line, in lower case."""

    def recognizes(self, path: Path) -> bool:
        """True when the file or folder looks like one of this framework's. Reads little, raises nothing."""

    def load(self, path: Path, *, options: Mapping[str, Any]) -> Model:
        """Load a model, named after the file. Raises ModelError."""


def quoted(name: str) -> str:
    """A name from a request, safe to print on one line: quoted, escaped, and cut when very long."""
    return repr(name) if len(name) <= _LONGEST_NAME else repr(name[:_LONGEST_NAME]) + "..."


def failure_text(error: BaseException) -> str:
    """What a model raised, on one line that is not too long: 'ValueError: no digits in it'."""
    reason = " ".join(str(error).split())
    if len(reason) > _LONGEST_REASON:
        reason = reason[:_LONGEST_REASON] + "..."
    if isinstance(error, ModelFailure):
        return reason
    kind = type(error).__name__
    return f"{kind}: {reason}" if reason else kind
