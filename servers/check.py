"""The check of a request's tensors against a signature, and of a model's results against its promise."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tensorwire._direct import Direct
from tensorwire._fit import Fit
from tensorwire._messages import Tensors, TensorSpec
from tensorwire._tally import Tally
from tensorwire.servers.model import Array, ModelFailure, RequestError, Signature, quoted

__all__ = ["Check", "ResultError"]

_log = logging.getLogger("tensorwire.service")

_LISTED = 20


class ResultError(ModelFailure):
    """A model's result is not what its signature declares."""


class Check:
    """A signature prepared for speed: what can be worked out once is not worked out per request.

    ``signature`` is the signature, ``outputs`` the names of its outputs in order. ``exact`` as in Model.
    """

    __slots__ = (
        "_aliases",
        "_any_inputs",
        "_any_outputs",
        "_count",
        "_exact",
        "_inputs",
        "_known",
        "_names",
        "_outputs",
        "_promises",
        "_rules",
        "_told",
        "outputs",
        "signature",
    )

    def __init__(self, signature: Signature, *, exact: bool = True) -> None:
        self.signature = signature
        self.outputs = tuple(spec.name for spec in signature.outputs)
        self._known = frozenset(self.outputs)
        self._aliases = signature.aliases
        self._any_inputs = signature.any_inputs
        self._any_outputs = signature.any_outputs
        self._names = tuple(spec.name for spec in signature.inputs)
        self._count = len(self._names)
        self._rules = tuple(_rule(spec) for spec in signature.inputs)
        self._promises = {spec.name: _rule(spec) for spec in signature.outputs}
        self._inputs = Fit(signature.inputs, signature.any_inputs)
        self._outputs = Fit(signature.outputs)
        self._exact = exact
        self._told: set[str] = set()

    def direct(
        self,
        run: Callable[[str, Mapping[str, Array], Sequence[str]], Mapping[str, Any]],
        failed: Callable[[BaseException, str], RequestError],
        tally: Tally,
    ) -> Direct[RequestError]:
        """What runs a model between these checks, on the thread that asks; ``failed`` makes an answer of what is raised
        for a request of that id, ``tally`` counts.
        """
        return Direct(
            run,
            self.signature.name,
            self._inputs,
            self._outputs,
            self.outputs,
            self.asked,
            self.results,
            failed,
            tally,
        )

    def feeds(self, tensors: Tensors) -> dict[str, Array]:
        """The inputs by name, in the signature's order (the request's own arrays; copies only of what is no
        array).

        Raises RequestError 400 for a missing, unknown or repeated name, and for a dtype, rank or size that
        the signature does not allow.
        """
        found = self._inputs.inputs(tensors)
        return self._feeds(tensors) if found is None else found

    def _feeds(self, tensors: Tensors) -> dict[str, Array]:
        """As ``feeds``, for what is not at first sight as the signature says."""
        names = tensors.names
        arrays = tensors.arrays
        for array in arrays:
            if type(array) is not np.ndarray:
                arrays = tuple([np.asarray(array) for array in arrays])
                break
        if self._any_inputs:
            return dict(zip(names or map(str, range(len(arrays))), arrays, strict=True))
        if names and names != self._names:
            arrays = self._by_name(names, arrays)
        elif len(arrays) != self._count:
            raise RequestError(400, f"{_count(len(arrays))} came, the model takes {_listed(self._names)}")
        for (spec, dtype, rank, fixed), array in zip(self._rules, arrays, strict=True):
            if dtype is not None and array.dtype is not dtype and not _fits(array.dtype, dtype):
                raise _mismatch(spec, array)
            if rank:
                shape = array.shape
                if len(shape) != rank:
                    raise _mismatch(spec, array)
                for axis, size in fixed:
                    if shape[axis] != size:
                        raise _mismatch(spec, array)
        return dict(zip(self._names, arrays, strict=True))

    def asked(self, outputs: tuple[str, ...]) -> tuple[str, ...]:
        """The outputs to compute for those that the request names: all when it names none.

        Raises RequestError 400 for an output that the signature does not have.
        """
        if not outputs:
            return self.outputs
        if not self._any_outputs:
            for name in outputs:
                if name not in self._known:
                    return self._by_alias(outputs)
        return outputs

    def results(self, found: Mapping[str, Any], asked: Sequence[str]) -> dict[str, Array]:
        """The outputs asked for, in that order, as arrays (copied only when they are not arrays yet: a list of
        numbers gets the declared dtype).

        Raises RequestError 400 when an undeclared output is not there, ResultError when a declared one is not, and
        when its dtype, rank or size is not the declared one.
        """
        results = self._outputs.outputs(found, asked)
        return self._results(found, asked) if results is None else results

    def _results(self, found: Mapping[str, Any], asked: Sequence[str]) -> dict[str, Array]:
        """As ``results``, for what is not at first sight as the signature says."""
        results = {}
        for name in asked or found:
            try:
                value = found[name]
            except KeyError:
                if self._any_outputs:
                    raise _unknown_output(name, found) from None
                raise ResultError(f"output {name!r} is declared, and was not computed") from None
            promise = self._promises.get(name)
            if type(value) is not np.ndarray or value.dtype.kind in "US":
                value = _array(value, None if promise is None else promise[1])
            if promise is not None:
                spec, dtype, rank, fixed = promise
                if dtype is not None and value.dtype is not dtype and value.dtype.newbyteorder("=") != dtype:
                    raise ResultError(_broken(spec, value))
                if rank:
                    shape = value.shape
                    if len(shape) != rank:
                        self._wrong_shape(spec, value)
                    else:
                        for axis, size in fixed:
                            if shape[axis] != size:
                                self._wrong_shape(spec, value)
                                break
            results[name] = value
        return results

    def _wrong_shape(self, spec: TensorSpec, value: Array) -> None:
        if self._exact:
            raise ResultError(_broken(spec, value))
        if spec.name not in self._told:
            self._told.add(spec.name)
            _log.warning("%s; it is sent as it is, and not told again", _broken(spec, value))

    def _by_alias(self, outputs: tuple[str, ...]) -> tuple[str, ...]:
        found = tuple([name if name in self._known else self._aliases.get(name, name) for name in outputs])
        for name, asked in zip(found, outputs, strict=True):
            if name not in self._known:
                raise _unknown_output(asked, self.outputs)
        return found

    def _own_name(self, name: str) -> str:
        other = self._aliases.get(name)
        return other if other in self._names and name not in self._names else name

    def _by_name(self, names: tuple[str, ...], arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        if self._aliases:
            names = tuple([self._own_name(name) for name in names])
        given = _unique(names, arrays)
        for name in names:
            if name not in self._names:
                raise RequestError(
                    400, f"unknown input {quoted(name)}: the model takes {_listed(self._names)}"
                )
        for name in self._names:
            if name not in given:
                raise RequestError(400, f"input {name!r} is missing: the model takes {_listed(self._names)}")
        return tuple([given[name] for name in self._names])


def _rule(spec: TensorSpec) -> tuple[TensorSpec, np.dtype[Any] | None, int, tuple[tuple[int, int], ...]]:
    """Spec, dtype, rank (0: not checked), and the dimensions of a fixed size as (axis, size)."""
    fixed = tuple((axis, size) for axis, size in enumerate(spec.shape) if size >= 0)
    return spec, spec.dtype, len(spec.shape), fixed


def _fits(came: np.dtype[Any], expected: np.dtype[Any]) -> bool:
    # Text may come as numpy's fixed-width strings when the caller is in this process.
    return came == expected or (expected.kind == "O" and came.kind in "US")


def _unique(names: tuple[str, ...], arrays: tuple[Array, ...]) -> dict[str, Array]:
    given: dict[str, Array] = {}
    for name, array in zip(names, arrays, strict=True):
        if name in given:
            raise RequestError(400, f"input {quoted(name)} came twice")
        given[name] = array
    return given


def _array(value: Any, dtype: np.dtype[Any] | None) -> Array:
    if value is None:
        raise TypeError("None was returned where an array is expected")
    array = np.asarray(value)
    if dtype is not None and isinstance(value, bool | int | float | list | tuple):
        # Python's numbers have no width of their own; 1.5 does not become an integer all the same.
        fits = not array.size or np.can_cast(array.dtype, dtype, "same_kind")
        return array.astype(dtype) if fits else array
    # The wire's text has no fixed width.
    return array.astype(object) if array.dtype.kind in "US" else array


def _broken(spec: TensorSpec, array: Array) -> str:
    return f"output {spec.name!r}: {_came(array)} came from the model, {_declared(spec)} is declared"


def _mismatch(spec: TensorSpec, array: Array) -> RequestError:
    return RequestError(400, f"input {spec.name!r}: {_came(array)} came, expected {_declared(spec)}")


def _came(array: Array) -> str:
    return f"shape {list(array.shape)} {_dtype_name(array.dtype)}"


def _declared(spec: TensorSpec) -> str:
    return f"{list(spec.shape) if spec.shape else 'any shape'} {_dtype_name(spec.dtype)}"


def _dtype_name(dtype: np.dtype[Any] | None) -> str:
    if dtype is None:
        return "of any dtype"
    if dtype.kind in "OUS":
        return "string"
    return dtype.name if dtype.isnative else f"{dtype.name} (byte-swapped)"


def _unknown_output(name: str, known: Iterable[str]) -> RequestError:
    return RequestError(400, f"unknown output {quoted(name)}: the model has {_listed(known)}")


def _count(n: int) -> str:
    return "no input" if not n else "1 input" if n == 1 else f"{n} inputs"


def _listed(names: Iterable[str]) -> str:
    """Names for a message: quoted, with commas, and not more than fit on a line or two."""
    names = list(names)
    text = ", ".join(repr(name) for name in names[:_LISTED])
    return (text or "none") + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
