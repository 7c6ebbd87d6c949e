"""A Python function as a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tensorwire._messages import TensorSpec
from tensorwire.servers.model import DEFAULT_SIGNATURE, Array, Model, Signature

__all__ = ["FunctionModel"]

Function = Callable[[dict[str, Array]], Any]


class FunctionModel(Model):
    """Calls ``fn(inputs)`` with the inputs by name; inputs that came without names are "0", "1", ...

    ``fn`` returns its outputs by name, or several in a list or tuple, or one array or number. Those without a
    name get the names that the request asked for when it asked for as many, the names in ``outputs`` when
    that declares as many, and "0", "1", ... otherwise.

    A side without specs (``inputs``, ``outputs``) is not checked. ``concurrency`` above 1 is for functions
    that may run in several threads at once; ``inline`` for those that take microseconds and never wait.
    """

    version = "1"

    def __init__(
        self,
        fn: Function,
        *,
        name: str = "",
        inputs: Sequence[TensorSpec] = (),
        outputs: Sequence[TensorSpec] = (),
        description: str = "",
        concurrency: int = 1,
        inline: bool = False,
    ) -> None:
        own_name = getattr(fn, "__name__", type(fn).__name__)
        self.name = name or ("function" if own_name == "<lambda>" else own_name)
        self.description = description or _first_line(getattr(fn, "__doc__", None))
        self.engine = "function"
        self.concurrency = concurrency
        self.inline = inline
        self.signatures = {
            DEFAULT_SIGNATURE: Signature(DEFAULT_SIGNATURE, tuple(inputs), tuple(outputs), open=True)
        }
        self._fn = fn
        self._declared = tuple(spec.name for spec in outputs)

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Any]:
        """What the function returns, by name (not copied). Raises what the function raises."""
        found = self._fn(dict(inputs))
        if isinstance(found, Mapping):
            return found
        values = found if isinstance(found, list | tuple) else (found,)
        for names in (outputs, self._declared):
            if len(names) == len(values):
                return dict(zip(names, values, strict=True))
        return {str(i): value for i, value in enumerate(values)}


def _first_line(doc: str | None) -> str:
    return doc.strip().partition("\n")[0].strip() if doc else ""
