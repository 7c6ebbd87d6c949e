"""TFLite files, run by LiteRT (ai-edge-litert) when that is installed, or by TensorFlow's own interpreter.

https://ai.google.dev/edge/litert
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from tensorwire._messages import TensorSpec
from tensorwire.servers.engines.options import Options
from tensorwire.servers.engines.tf.runtime import import_tensorflow, without_chatter
from tensorwire.servers.model import DEFAULT_SIGNATURE, Array, Model, ModelError, RequestError, Signature

__all__ = ["TfliteModel", "load_tflite"]


def load_tflite(path: Path, options: Options) -> TfliteModel:
    """Raises ModelError: not a TFLite file, an operation that the interpreter lacks, no interpreter installed.

    Options: ``intra_op_num_threads`` and ``concurrency`` (interpreters, each with its own working memory), and
    ``custom_ops`` (libraries of delegates).
    """
    threads = options.whole("intra_op_num_threads")
    concurrency = options.concurrency()
    libraries = options.files("custom_ops")
    device = options.text("device", "cpu")
    options.end(path)
    if device != "cpu":
        raise ModelError(f"{path}: TFLite models run on the cpu, not on {device!r}")
    module, about = _interpreter(path)
    try:
        delegates = [module.load_delegate(str(library)) for library in libraries]
    except (ValueError, OSError) as error:
        raise ModelError(f"{path}: a delegate cannot be loaded: {_plain(error)}") from error
    try:
        with warnings.catch_warnings(), without_chatter():
            warnings.simplefilter("ignore", UserWarning)  # it is to move to another package
            pool = [
                module.Interpreter(str(path), num_threads=threads or None, experimental_delegates=delegates or None)
                for _ in range(concurrency)
            ]
            for interpreter in pool:
                interpreter.allocate_tensors()
    except Exception as error:
        raise ModelError(f"{path}: {_failure(path, error)}") from error
    return TfliteModel(path, pool, about)


class TfliteModel(Model):
    """A pool of interpreters, one for each call under way. Tensors are copied into an interpreter's memory and out of
    it, since the next call has the same memory.
    """

    def __init__(self, path: Path, pool: Sequence[Any], about: str) -> None:
        first = pool[0]
        listed = first.get_signature_list()
        self.name = path.stem
        self.engine = about
        self.concurrency = len(pool)
        self.facts = {"format": "TFLite"}
        if listed:
            self.signatures = {name: _declared(path, first, name) for name in listed}
        else:
            self.signatures = {DEFAULT_SIGNATURE: _details(path, first)}
        self.default_signature = (
            DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in self.signatures else next(iter(self.signatures))
        )
        self._named = bool(listed)
        self._free: SimpleQueue[Any] = SimpleQueue()
        self._closed = False
        for interpreter in pool:
            self._free.put(interpreter)

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        """Inputs and results are copied once each.

        Raises RequestError 400 for sizes that the model cannot take. 0 is one of them: the interpreter's operations
        divide by it, or read what is not there.
        """
        for name, x in inputs.items():
            if not x.size:
                rows = "rows" if not x.shape[0] else "values"
                raise RequestError(
                    400, f"input {name!r}: shape {list(x.shape)} has 0 {rows}; TFLite models take 1 or more"
                )
        feeds = {name: np.ascontiguousarray(x).reshape(x.shape) for name, x in inputs.items()}
        with self._interpreter() as interpreter:
            if not self._named:
                return self._run_details(interpreter, feeds)
            try:
                runner = interpreter.get_signature_runner(signature or self.default_signature)
                return {name: _plain_array(value) for name, value in runner(**feeds).items()}
            except (ValueError, RuntimeError) as error:
                raise RequestError(400, _plain(error)) from None

    def close(self) -> None:
        """Give back the interpreters once the calls under way are over."""
        self._closed = True
        while not self._free.empty():
            self._free.get()

    @contextmanager
    def _interpreter(self) -> Iterator[Any]:
        if self._closed:
            raise RequestError(503, f"model {self.name!r} is closed")
        interpreter = self._free.get()
        try:
            yield interpreter
        finally:
            if not self._closed:
                self._free.put(interpreter)

    def _run_details(self, interpreter: Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
        try:
            details = interpreter.get_input_details()
            resized = False
            for detail in details:
                shape = feeds[detail["name"]].shape
                if tuple(detail["shape"]) != shape:
                    interpreter.resize_tensor_input(detail["index"], shape)
                    resized = True
            if resized:
                interpreter.allocate_tensors()
            for detail in details:
                interpreter.set_tensor(detail["index"], feeds[detail["name"]])
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise RequestError(400, _plain(error)) from None
        return {
            detail["name"]: _plain_array(interpreter.get_tensor(detail["index"]))
            for detail in interpreter.get_output_details()
        }


def _interpreter(path: Path) -> tuple[Any, str]:
    """The module with Interpreter and load_delegate, and the name of what runs."""
    try:
        from importlib.metadata import version

        from ai_edge_litert import interpreter

        return interpreter, f"LiteRT {version('ai-edge-litert')} (CPU)"
    except ImportError:
        tf = import_tensorflow(path)
    return _TensorFlowLite(tf), f"TensorFlow Lite {tf.__version__} (CPU)"


class _TensorFlowLite:
    """TensorFlow's interpreter under the names that LiteRT has."""

    def __init__(self, tf: Any) -> None:
        self.Interpreter = tf.lite.Interpreter
        self.load_delegate = tf.lite.experimental.load_delegate


def _declared(path: Path, interpreter: Any, name: str) -> Signature:
    runner = interpreter.get_signature_runner(name)
    inputs, outputs = runner.get_input_details(), runner.get_output_details()
    return Signature(
        name,
        tuple(_spec(path, key, inputs[key]) for key in inputs),
        tuple(_spec(path, key, outputs[key]) for key in outputs),
    )


def _details(path: Path, interpreter: Any) -> Signature:
    """A file without signatures: the names of its tensors."""
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    return Signature(
        DEFAULT_SIGNATURE,
        tuple(_spec(path, detail["name"], detail) for detail in inputs),
        tuple(_spec(path, detail["name"], detail) for detail in outputs),
    )


def _spec(path: Path, name: str, detail: Mapping[str, Any]) -> TensorSpec:
    dims = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    dtype = np.dtype(detail["dtype"])
    shape = tuple(int(dim) for dim in dims)
    return TensorSpec(name, np.dtype(object) if dtype.kind in "SO" else dtype, shape)


def _plain_array(value: Any) -> Array:
    array = np.asarray(value)
    return array.astype(object) if array.dtype.kind == "S" else array


def _failure(path: Path, error: BaseException) -> str:
    if not path.stat().st_size:
        return "the file is empty"
    text = _plain(error)
    if "unresolved custom op" in text:
        return f"the interpreter has not all of its operations: {text}"
    return f"not a TFLite model that can be run, or cut short: {text}"


def _plain(error: BaseException) -> str:
    return " ".join(str(error).split())
