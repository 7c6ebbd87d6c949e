"""A TensorFlow model: signatures, each of them one compiled function that is called with as little ado as there is.

A ConcreteFunction called as such takes 15 times as long as the operation that runs it, which TensorFlow gives out as
tf.raw_ops.StatefulPartitionedCall (figures in bench/NOTES.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorwire._messages import TensorSpec
from tensorwire.servers.engines.no_rows import no_rows
from tensorwire.servers.engines.tf.runtime import Runtime
from tensorwire.servers.engines.tf.tensors import Feed, Take, array_dtype, feed, take
from tensorwire.servers.model import DEFAULT_SIGNATURE, Array, Model, ModelError, RequestError, Signature

_TRACE = re.compile(
    r"Graph execution error:\s*"
    r"|Detected at node [^\n]* \(most recent call last\):[^\S\n]*\n"
    r'(?:[^\S\n]*(?:<stack traces unavailable>|File "[^\n]*", line \d+[^\n]*(?:\n    [^\n]*)?)?(?:\n|\Z))*'
)

__all__ = ["Call", "Input", "TensorFlowModel", "cannot_load", "plain", "prepare", "spec_of"]


class Input:
    """One input of a signature: ``tensor`` makes TensorFlow's from an array."""

    __slots__ = ("_dtype", "_fixed", "_make", "_rank", "name", "spec")

    def __init__(self, tf: Any, name: str, tensor: Any) -> None:
        self.name = name
        self.spec = spec_of(name, tensor)
        self._make: Feed = feed(tf, name, tensor.dtype)
        self._dtype = self.spec.dtype
        self._rank: int | None = tensor.shape.rank
        self._fixed = tuple((axis, size) for axis, size in enumerate(self.spec.shape) if size >= 0)

    def tensor(self, array: Array) -> Any:
        """Raises RequestError 400 for another dtype, rank or size than TensorFlow was told when it traced the function:
        it does not look again, and some of its operations end the process over what they did not expect.
        """
        shape = array.shape
        if array.dtype is not self._dtype and not self._same(array.dtype):
            raise self._refused(array)
        if self._rank is not None:
            if len(shape) != self._rank:
                raise self._refused(array)
            for axis, size in self._fixed:
                if shape[axis] != size:
                    raise self._refused(array)
        return self._make(array)

    def _same(self, came: Any) -> bool:
        if self._dtype is not None and self._dtype.kind == "O":
            return came.kind in "OUS"
        return bool(came.newbyteorder("=") == self._dtype)

    def _refused(self, array: Array) -> RequestError:
        came = f"shape {list(array.shape)} {array.dtype.name}"
        expected = "any shape" if self._rank is None else f"{list(self.spec.shape)}"
        return RequestError(400, f"input {self.name!r}: {came} came, expected {expected} {self._dtype}")


@dataclass(frozen=True, slots=True)
class Call:
    """One signature, ready to be run.

    ``captures`` are the tensors that it reads beside its inputs. ``owners`` are kept since TensorFlow forgets a
    function, and its variables and tables, with the last object that owns them.
    """

    signature: Signature
    feeds: tuple[Input, ...]
    takes: tuple[tuple[str, Take], ...]
    name: str
    types: tuple[Any, ...]
    captures: tuple[Any, ...]
    owners: tuple[Any, ...]


class TensorFlowModel(Model):
    """A model that TensorFlow runs. ``run`` is safe in any number of threads and releases the GIL."""

    exact = False

    def __init__(
        self, runtime: Runtime, path: Path, calls: Mapping[str, Call], concurrency: int, facts: Mapping[str, str]
    ) -> None:
        if not calls:
            raise ModelError(f"{path}: the model has no signature that can be served")
        self.name = path.stem
        self.engine = runtime.build
        self.device = runtime.device
        self.concurrency = concurrency
        self.facts = facts
        self.signatures = {name: call.signature for name, call in calls.items()}
        self.default_signature = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in calls else next(iter(calls))
        self._calls: dict[str, Call] = dict(calls)
        self._runtime = runtime
        self._run = runtime.tf.raw_ops.StatefulPartitionedCall
        self._invalid = (runtime.tf.errors.InvalidArgumentError, runtime.tf.errors.OutOfRangeError)

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        """Inputs are read in place when they are contiguous, writable and at a 64-byte boundary, and copied once
        otherwise; results are read-only views of TensorFlow's memory, or of the input's where the graph passes one on.
        """
        call = self._calls.get(signature or self.default_signature)
        if call is None:
            raise RequestError(503, f"model {self.name!r} is closed")
        # The tensors stay referred to until the results are there: TensorFlow may write a result over an input that
        # nobody else holds.
        tensors = [expected.tensor(inputs[expected.name]) for expected in call.feeds]
        try:
            if self._runtime.place is None:
                found = self._run(args=[*tensors, *call.captures], Tout=call.types, f=call.name)
            else:
                with self._runtime.placed():
                    found = self._run(args=[*tensors, *call.captures], Tout=call.types, f=call.name)
        except self._invalid as error:
            raise RequestError(400, plain(error) + no_rows(inputs)) from None
        except self._runtime.tf.errors.OpError as error:
            raise RuntimeError(plain(error) + no_rows(inputs)) from error
        return {name: view(tensor) for (name, view), tensor in zip(call.takes, found, strict=True)}

    def close(self) -> None:
        """Give back functions and variables once the calls under way are over; arrays that were returned stay valid."""
        self._calls = {}


def prepare(
    runtime: Runtime,
    signature: str,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    compute: Callable[..., Sequence[Any]],
    *,
    xla: bool = False,
    aliases: Mapping[str, str] | None = None,
    owner: Any = None,
) -> Call:
    """Trace ``compute``, from tensors in the order of ``inputs`` to those in the order of ``outputs``, as a function.

    Both map names to tf.TensorSpec or tensors (those of ``outputs`` are not looked at), whose dtypes array_dtype knows.
    ``owner`` lives as long as the result.
    """
    tf = runtime.tf
    specs = [tf.TensorSpec(spec.shape, spec.dtype) for spec in inputs.values()]
    traced = tf.function(compute, autograph=False, jit_compile=xla or None)
    with runtime.placed():
        function = traced.get_concrete_function(*specs)
    function.add_to_graph()
    feeds = tuple(Input(tf, name, spec) for name, spec in inputs.items())
    declared = Signature(
        signature,
        tuple(expected.spec for expected in feeds),
        tuple(spec_of(name, spec) for name, spec in zip(outputs, function.outputs, strict=True)),
        aliases=dict(aliases or {}),
    )
    return Call(
        declared,
        feeds,
        tuple((name, take(tf, tensor.dtype)) for name, tensor in zip(outputs, function.outputs, strict=True)),
        function.function_def.signature.name,
        tuple(tensor.dtype for tensor in function.outputs),
        tuple(function.captured_inputs),
        (function, owner),
    )


def spec_of(name: str, tensor: Any) -> TensorSpec:
    """What a tensor or tf.TensorSpec is; an unknown rank has, as in all signatures, the shape of a scalar."""
    dims = () if tensor.shape.rank is None else tensor.shape.as_list()
    return TensorSpec(name, array_dtype(tensor.dtype), tuple(-1 if dim is None else dim for dim in dims))


def cannot_load(runtime: Runtime, error: BaseException, remark: str = "") -> str:
    """Why TensorFlow does not take a graph: what it says, or which operation it lacks and what to do."""
    text = plain(error)
    missing = re.search(r"Op type not registered '([^']*)'", text)
    if missing:
        return (
            f"TensorFlow {runtime.tf.__version__} has no operation {missing[1]!r}: name the library that has it with "
            "--custom-op-path, or use a TensorFlow that has it"
        )
    return f"TensorFlow {runtime.tf.__version__} cannot load it{remark}: {text}"


def plain(error: BaseException) -> str:
    """TensorFlow's error on one line, without the names that it gave to functions and nodes, and where in Python those
    were made.
    """
    text = str(getattr(error, "message", None) or error)
    text = _TRACE.sub("", text)
    text = re.sub(r"\{\{(?:function_node|node) [^}]*\}\}", "", text)
    text = re.sub(r"\[Op:[^\]]*\]|\[\[[^\]]*\]\]|name:\s*$", "", text)
    text = re.sub(r"\d+ root error\(s\) found\.\s*\(\d+\) \w+: |\(\d+\) Cancelled: .*", "", text, flags=re.S)
    return " ".join(text.split())
