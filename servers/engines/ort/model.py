"""A loaded ONNX model: what it declares, and its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tensorwire._copies import count_received
from tensorwire.servers.engines.no_rows import no_rows
from tensorwire.servers.engines.ort.binding import Binder
from tensorwire.servers.engines.ort.errors import plain
from tensorwire.servers.engines.ort.facts import OnnxFile
from tensorwire.servers.engines.ort.signature import declared
from tensorwire.servers.engines.ort.types import ML_NUMBERS, TEXT
from tensorwire.servers.engines.ort.values import text_in, view
from tensorwire.servers.model import DEFAULT_SIGNATURE, Array, Model, ModelError, RequestError

__all__ = ["OrtModel"]

_IN_PLACE = 0x0001 | 0x0100  # numpy's flags C_CONTIGUOUS and ALIGNED
_NO_VERSION = (0, 2**63 - 1)  # what ONNX Runtime reports when the file does not say
_MOST_PROPERTIES = 50
_LONGEST_PROPERTY = 500


class OrtModel(Model):
    """One ``onnxruntime.InferenceSession``. ``run`` is safe in any number of threads and releases the GIL.

    Exporters write wrong output shapes at times, a batch of 1 for example. ONNX Runtime warns of them and
    gives the right result, so they are no failure here either.

    Outputs that are not asked for are not handed over, but ONNX Runtime computes them all the same: its
    inference builds always run the whole graph (https://github.com/microsoft/onnxruntime/issues/16013).
    """

    exact = False

    def __init__(
        self,
        session: Any,
        source: Path | bytes,
        path: Path,
        file: OnnxFile | None,
        facts: Mapping[str, str],
        *,
        device: str,
        concurrency: int,
    ) -> None:
        import onnxruntime as ort
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        meta = session.get_modelmeta()
        self.name = path.stem
        self.version = str(meta.version) if meta.version not in _NO_VERSION else "1"
        self.description = _description(meta)
        self.device = device
        provider = session.get_providers()[0].removesuffix("ExecutionProvider")
        self.engine = f"onnxruntime {ort.__version__} ({provider})"
        self.concurrency = concurrency
        self.facts = {**facts, **_properties(meta)}
        inputs, outputs = session.get_inputs(), session.get_outputs()
        signature, self._convert = declared(path, source, inputs, outputs, file.descriptions if file else {})
        self.signatures = {DEFAULT_SIGNATURE: signature}
        self._session: Any = session
        self._invalid: type[Exception] = state.InvalidArgument
        self._failures: tuple[type[Exception], ...] = (state.Fail, state.RuntimeException, state.NotImplemented)
        self._profiled: bool = session.get_session_options().enable_profiling
        self._values: Any = ort.OrtValue
        self._text_in = frozenset(arg.name for arg in inputs if arg.type == TEXT)
        names_in, names_out = ({arg.name for arg in args} for args in (inputs, outputs))
        self._passed = (names_in & names_out) - self._text_in
        self._ml_types = {arg.name: ML_NUMBERS[arg.type] for arg in inputs if arg.type in ML_NUMBERS}
        self._dtypes = {spec.name: np.dtype(spec.dtype) for spec in signature.outputs}
        self._as_values = any(arg.type in ML_NUMBERS for arg in (*inputs, *outputs))
        self._binder: Any = None if self._text_in or self._convert else Binder(session, self._dtypes, device=device)
        if self._as_values and self._text_in:
            raise ModelError(f"{path}: takes text beside bfloat16 or float8 tensors, which cannot be served together")

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        """Inputs are read in place (a misaligned, strided or byte-swapped one is copied once); results are views of
        ONNX Runtime's memory or of a Chunk, which live as long as they do, or of the input where the graph passes
        one through. Text, sequences and maps are copied.
        """
        session, binder = self._session, self._binder
        if session is None:
            raise RequestError(503, f"model {self.name!r} is closed")
        feeds = inputs if type(inputs) is dict else dict(inputs)
        for name, x in inputs.items():
            if x.flags.num & _IN_PLACE != _IN_PLACE or not x.dtype.isnative:
                feeds = {**feeds, name: np.array(x, x.dtype.newbyteorder("="), order="C")}
                count_received(x.nbytes)
        if self._passed:
            # Some releases give a view of the request's memory here that does not keep it alive:
            # https://github.com/microsoft/onnxruntime/pull/28088
            outputs = [name for name in outputs if name not in self._passed]
        try:
            if not outputs:
                found = {}
            elif self._as_values:
                found = self._run_values(session, feeds, outputs)
            elif binder is not None:
                found = binder.run(feeds, outputs)
            else:
                if self._text_in:
                    feeds = {name: text_in(name, x) if name in self._text_in else x for name, x in feeds.items()}
                found = dict(zip(outputs, session.run(outputs, feeds), strict=True))
        except self._invalid as error:
            raise RequestError(400, plain(str(error)) + no_rows(inputs)) from None
        except self._failures as error:
            raise RuntimeError(plain(str(error)) + no_rows(inputs)) from error
        for name, convert in self._convert.items():
            if name in found:
                found[name] = convert(found[name])
        for name in self._passed:
            found[name] = inputs[name]
        return found

    def close(self) -> None:
        """Give back the session once the calls under way are over; arrays that it returned stay valid."""
        session, self._session, self._binder = self._session, None, None
        if session is not None and self._profiled:
            session.end_profiling()

    def _run_values(self, session: Any, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Any]:
        """The way for types that numpy has not, which ``session.run`` can neither take nor give."""
        values = {}
        for name, x in feeds.items():
            number = self._ml_types.get(name)
            if number is None:
                values[name] = self._values.ortvalue_from_numpy(x)
            else:
                bits = x.view(f"u{x.dtype.itemsize}")
                values[name] = self._values.ortvalue_from_numpy_with_onnx_type(bits, number)
        found = session.run_with_ort_values(outputs, values)
        return {
            name: value.numpy() if name in self._convert else view(value, self._dtypes[name])
            for name, value in zip(outputs, found, strict=True)
        }


def _description(meta: Any) -> str:
    text = " ".join((meta.description or meta.graph_description or "").split())
    producer = f"(made by {meta.producer_name})" if meta.producer_name else ""
    return f"{text} {producer}".strip()


def _properties(meta: Any) -> dict[str, str]:
    """The custom properties of a model's metadata, cut where they are long."""
    found = {}
    for key, value in sorted(meta.custom_metadata_map.items())[:_MOST_PROPERTIES]:
        text = " ".join(value.split())
        found[f"property {key}"] = text if len(text) <= _LONGEST_PROPERTY else text[:_LONGEST_PROPERTY] + "..."
    return found
