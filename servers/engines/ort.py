"""ONNX models, run by ONNX Runtime, without a copy of tensor data in either direction.

ONNX Runtime reads an aligned, contiguous numpy array in place, and since 1.19 gives its results as arrays
over its own buffers, each of which owns its memory: https://github.com/microsoft/onnxruntime/pull/20539
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tensorwire._messages import TensorSpec
from tensorwire.servers.engines.onnx_file import onnx_facts
from tensorwire.servers.engines.options import Options
from tensorwire.servers.model import DEFAULT_SIGNATURE, Array, Model, ModelError, RequestError, Signature

__all__ = ["ENGINE", "OrtEngine", "OrtModel", "available_providers"]

_DTYPES = {
    "tensor(float)": "f4",
    "tensor(double)": "f8",
    "tensor(float16)": "f2",
    "tensor(int8)": "i1",
    "tensor(int16)": "i2",
    "tensor(int32)": "i4",
    "tensor(int64)": "i8",
    "tensor(uint8)": "u1",
    "tensor(uint16)": "u2",
    "tensor(uint32)": "u4",
    "tensor(uint64)": "u8",
    "tensor(bool)": "?",
    "tensor(string)": "O",
}
# Types that numpy has not, with their names in ml_dtypes and their numbers in onnx.TensorProto.DataType.
_ML_DTYPES = {
    "tensor(bfloat16)": ("bfloat16", 16),
    "tensor(float8e4m3fn)": ("float8_e4m3fn", 17),
    "tensor(float8e5m2)": ("float8_e5m2", 19),
}

_IN_PLACE = 0x0001 | 0x0100  # numpy's flags C_CONTIGUOUS and ALIGNED
_NO_VERSION = (0, 2**63 - 1)  # what ONNX Runtime reports when the file does not say
_FATAL = 4  # log severity: errors arrive as exceptions, and a client's mistake is not the console's business


class OrtEngine:
    """Loads .onnx and .ort files.

    Options: ``intra_op_num_threads`` and ``inter_op_num_threads`` (0: ONNX Runtime decides), ``concurrency``
    (requests run at once), ``allow_spinning`` (1: idle threads keep a core busy for a faster start; default
    0), ``providers`` (execution providers in order of preference, a list or text with commas; default CPU).
    """

    name = "onnx"

    def recognizes(self, path: Path) -> bool:
        return path.suffix.lower() in (".onnx", ".ort") and path.is_file()

    def load(self, path: Path, *, options: Mapping[str, Any]) -> OrtModel:
        """Raises ModelError: no ONNX Runtime, not a model or one too new for it, unknown option."""
        try:
            import onnxruntime as ort
        except ImportError:
            raise ModelError(
                f"{path}: ONNX Runtime is not installed; run: pip install 'tensorwire[onnx]'"
            ) from None
        given = Options(self.name, options)
        session_options = ort.SessionOptions()
        session_options.log_severity_level = _FATAL
        for key in ("intra_op_num_threads", "inter_op_num_threads"):
            setattr(session_options, key, given.whole(key))
        # Idle threads that spin take cores from the event loop and from each other. Without, two requests at
        # once took 30 % less time each on two cores, and one every 2 ms a fourth of the processor time.
        spin = str(int(given.flag("allow_spinning")))
        session_options.add_session_config_entry("session.intra_op.allow_spinning", spin)
        session_options.add_session_config_entry("session.inter_op.allow_spinning", spin)
        concurrency = given.concurrency()
        providers = given.names("providers", "CPUExecutionProvider")
        _check_providers(providers, ort.get_available_providers())
        given.end(path)
        try:
            session = ort.InferenceSession(str(path), session_options, providers=providers, enable_fallback=0)
        except Exception as error:
            raise ModelError(_load_failure(path, str(error), ort.__version__)) from error
        return OrtModel(session, path, concurrency)


ENGINE = OrtEngine()


def available_providers() -> list[str]:
    """The execution providers of the ONNX Runtime that is installed, by its names. Raises ImportError."""
    import onnxruntime as ort

    return list(ort.get_available_providers())


class OrtModel(Model):
    """One ``onnxruntime.InferenceSession``. ``run`` is safe in any number of threads and releases the GIL.

    Exporters write wrong output shapes at times, a batch of 1 for example. ONNX Runtime warns of them and
    gives the right result, so they are no failure here either.

    Outputs that are not asked for are not handed over, but ONNX Runtime computes them all the same: its
    inference builds always run the whole graph (https://github.com/microsoft/onnxruntime/issues/16013).
    """

    exact = False

    def __init__(self, session: Any, path: Path, concurrency: int) -> None:
        import onnxruntime as ort
        from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

        meta = session.get_modelmeta()
        self.name = path.stem
        self.version = str(meta.version) if meta.version not in _NO_VERSION else "1"
        self.description = _description(meta)
        device = session.get_providers()[0].removesuffix("ExecutionProvider")
        self.engine = f"onnxruntime {ort.__version__} ({device})"
        self.concurrency = concurrency
        self.facts = onnx_facts(path)
        inputs, outputs = session.get_inputs(), session.get_outputs()
        self.signatures = {DEFAULT_SIGNATURE: _signature(path, inputs, outputs)}
        self._session: Any = session
        self._invalid: type[Exception] = InvalidArgument
        self._values: Any = ort.OrtValue
        self._text_in = frozenset(arg.name for arg in inputs if arg.type == "tensor(string)")
        self._text_out = frozenset(arg.name for arg in outputs if arg.type == "tensor(string)")
        names_in, names_out = ({arg.name for arg in args} for args in (inputs, outputs))
        self._passed = (names_in & names_out) - self._text_in
        self._ml_types = {arg.name: _ML_DTYPES[arg.type][1] for arg in inputs if arg.type in _ML_DTYPES}
        self._dtypes = {spec.name: spec.dtype for spec in self.signatures[DEFAULT_SIGNATURE].outputs}
        self._as_values = any(arg.type in _ML_DTYPES for arg in (*inputs, *outputs))
        if self._as_values and self._text_in:
            raise ModelError(
                f"{path}: takes text beside bfloat16 or float8 tensors, which cannot be served together"
            )

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        """Inputs are read in place (a misaligned, strided or byte-swapped one is copied once); results are
        views of ONNX Runtime's memory, which lives as long as they do, or of the input where the graph passes
        one through.
        """
        session = self._session
        if session is None:
            raise RequestError(503, f"model {self.name!r} is closed")
        feeds = inputs if type(inputs) is dict else dict(inputs)
        for name, x in inputs.items():
            if x.flags.num & _IN_PLACE != _IN_PLACE or not x.dtype.isnative:
                feeds = {**feeds, name: np.array(x, x.dtype.newbyteorder("="), order="C")}
        if self._passed:
            # Some releases give a view of the request's memory here that does not keep it alive:
            # https://github.com/microsoft/onnxruntime/pull/28088
            outputs = [name for name in outputs if name not in self._passed]
        try:
            if not outputs:
                found = {}
            elif self._as_values:
                found = self._run_values(session, feeds, outputs)
            else:
                if self._text_in:
                    feeds = {name: _str(name, x) if name in self._text_in else x for name, x in feeds.items()}
                found = dict(zip(outputs, session.run(outputs, feeds), strict=True))
        except self._invalid as error:
            raise RequestError(400, _plain(str(error))) from None
        for name in self._text_out:
            if name in found:
                found[name] = _bytes(found[name])
        for name in self._passed:
            found[name] = inputs[name]
        return found

    def close(self) -> None:
        """Give back the session once the calls under way are over; arrays that it returned stay valid."""
        self._session = None

    def _run_values(
        self, session: Any, feeds: Mapping[str, Array], outputs: Sequence[str]
    ) -> dict[str, Array]:
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
            name: _bytes(value.numpy()) if name in self._text_out else _view(value, self._dtypes[name])
            for name, value in zip(outputs, found, strict=True)
        }


class _Lent:
    """The memory of an OrtValue, for numpy, which keeps this object and so the OrtValue alive."""

    __slots__ = ("__array_interface__", "_value")

    def __init__(self, value: Any, shape: tuple[int, ...], itemsize: int) -> None:
        self._value = value
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": f"<u{itemsize}",
            "data": (value.data_ptr(), False),
        }


def _view(value: Any, dtype: Any) -> Array:
    """A tensor OrtValue as an array over the same memory, of any dtype, ml_dtypes' included."""
    shape = tuple(value.shape())
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.asarray(_Lent(value, shape, dtype.itemsize)).view(dtype)


def _str(name: str, x: Array) -> Array:
    """Text as objects of str, a copy: given bytes, ONNX Runtime would take their repr, "b'...'"."""
    try:
        texts = [item.decode() if isinstance(item, bytes) else str(item) for item in x.ravel()]
    except UnicodeDecodeError as error:
        raise RequestError(400, f"input {name!r}: not UTF-8: {error}") from None
    return _objects(texts, x.shape)


def _bytes(x: Array) -> Array:
    """Text as objects of bytes (UTF-8), a copy."""
    return _objects([item.encode() for item in x.ravel()], x.shape)


def _objects(items: list[Any], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(items), object)
    array[:] = items
    return array.reshape(shape)


def _signature(path: Path, inputs: Sequence[Any], outputs: Sequence[Any]) -> Signature:
    """What the session declares. Outputs that are no tensors (a classifier's list of maps) are left out."""
    for arg in inputs:
        if _dtype(arg.type) is None:
            raise ModelError(f"{path}: input {arg.name!r} is a {arg.type}, which cannot be sent as a tensor")
    tensors = [arg for arg in outputs if _dtype(arg.type) is not None]
    if not tensors:
        found = ", ".join(f"{arg.name!r} is a {arg.type}" for arg in outputs)
        raise ModelError(f"{path}: none of the outputs is a tensor that can be sent: {found}")
    return Signature(DEFAULT_SIGNATURE, tuple(map(_spec, inputs)), tuple(map(_spec, tensors)))


def _spec(arg: Any) -> TensorSpec:
    # A dimension is a size, a name, or None. ONNX Runtime reports a scalar and an unknown rank alike, as [].
    shape = [dim if isinstance(dim, int) and dim >= 0 else -1 for dim in arg.shape]
    return TensorSpec(arg.name, _dtype(arg.type), shape)


def _dtype(kind: str) -> np.dtype[Any] | None:
    if kind in _ML_DTYPES:
        import ml_dtypes

        dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, _ML_DTYPES[kind][0]))
        return dtype
    return np.dtype(_DTYPES[kind]) if kind in _DTYPES else None


def _description(meta: Any) -> str:
    text = " ".join((meta.description or meta.graph_description or "").split())
    producer = f"(made by {meta.producer_name})" if meta.producer_name else ""
    return f"{text} {producer}".strip()


def _check_providers(names: Sequence[str], available: Sequence[str]) -> None:
    for name in names:
        if name not in available:
            raise ModelError(f"no execution provider {name!r}: this ONNX Runtime has {', '.join(available)}")


def _load_failure(path: Path, text: str, version: str) -> str:
    if path.is_file() and not path.stat().st_size:
        return f"{path}: the file is empty"
    opset = re.search(
        r"Opset (\d+) is under development.*support for domain (\S+) is till opset (\d+)", text, re.S
    )
    if opset:
        asked, domain, known = opset.groups()
        return f"{path}: needs opset {asked} of {domain}, ONNX Runtime {version} knows {known} and older"
    if "INVALID_PROTOBUF" in text:
        return f"{path}: not an ONNX model, or cut short"
    if "No graph was found" in text:
        return f"{path}: not an ONNX model, or cut short: no graph in it"
    return f"{path}: ONNX Runtime {version} cannot load it: {_plain(text)}"


def _plain(text: str) -> str:
    """ONNX Runtime's error on one line, without its code, its advice, and where in its source it arose."""
    text = " ".join(text.split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", text)
    text = re.sub(r"^Load model from .*? failed: ?", "", text)
    text = re.sub(r"^(Exception during \w+: )?/\S+:\d+ .*?\) (?=[A-Z])", "", text)
    return text.removesuffix(" Please fix either the inputs/outputs or the model.")
