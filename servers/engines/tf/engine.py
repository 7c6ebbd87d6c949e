"""The engine for TensorFlow's formats: which file is which, the options, and who loads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorwire.servers.engines.options import Options
from tensorwire.servers.engines.tf.graph import load_graph
from tensorwire.servers.engines.tf.keras_file import load_keras
from tensorwire.servers.engines.tf.model import TensorFlowModel, plain
from tensorwire.servers.engines.tf.runtime import Runtime, import_tensorflow, start
from tensorwire.servers.engines.tf.saved_model import load_saved_model
from tensorwire.servers.engines.tf.tflite import load_tflite
from tensorwire.servers.model import Model, ModelError

__all__ = ["ENGINE", "TensorFlowEngine"]

_KERAS = (".keras", ".h5", ".hdf5")
_GRAPH, _SAVED = "graph", "saved"


class TensorFlowEngine:
    """Loads SavedModel folders, frozen graphs (.pb), Keras models (.keras, .h5) and .tflite files.

    Options: ``intra_op_num_threads`` and ``inter_op_num_threads`` (0: TensorFlow decides; one setting for the whole
    process), ``concurrency`` (requests run at once), ``device`` (cpu, cuda, cuda:1, or several), ``memory_growth`` (1:
    take a GPU's memory as it is needed; default 1), ``xla`` (1: compile with XLA), ``inputs`` and ``outputs`` (tensors
    of a frozen graph), ``tags`` (of one of several graphs in a SavedModel), ``custom_ops`` (shared libraries; those of
    TFLite are delegates), ``allow_pickle`` (1: read Keras's Lambda layers, which run code from the file).
    """

    name = "tensorflow"

    def recognizes(self, path: Path) -> bool:
        if path.is_dir():
            return (path / "saved_model.pb").is_file()
        suffix = path.suffix.lower()
        if suffix in (*_KERAS, ".tflite"):
            return path.is_file()
        return suffix == ".pb" and _kind(path) != ""

    def prepare(self) -> None:
        import_tensorflow(Path())

    def load(self, path: Path, *, options: Mapping[str, Any]) -> Model:
        """Raises ModelError: no TensorFlow, not a model or one that it cannot run, unknown option."""
        given = Options(self.name, options)
        suffix = path.suffix.lower()
        if suffix == ".tflite":
            return load_tflite(path, given)
        if path.is_file() and _kind(path) == _SAVED:
            path = path.parent
        xla = given.flag("xla")
        concurrency = given.concurrency()
        libraries = given.files("custom_ops")
        runtime = start(path, given)
        _load_libraries(runtime, libraries)
        if path.is_dir():
            tags = given.names("tags")
            given.end(path)
            calls, facts = load_saved_model(runtime, path, tags, xla=xla)
        elif suffix in _KERAS:
            allow_pickle = given.flag("allow_pickle")
            given.end(path)
            calls, facts = load_keras(runtime, path, allow_pickle=allow_pickle, xla=xla)
        else:
            inputs, outputs = given.names("inputs"), given.names("outputs")
            given.end(path)
            calls, facts = load_graph(runtime, path, inputs, outputs, xla=xla)
        return TensorFlowModel(runtime, path, calls, concurrency, facts)


ENGINE = TensorFlowEngine()


def _kind(path: Path) -> str:
    """What the first bytes of a .pb file are: a GraphDef begins with a NodeDef, a SavedModel with its schema's version.

    Other protocol buffers that are called .pb, such as Caffe2's, begin with a name.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return ""
    if head[:1] == b"\x08":
        return _SAVED if path.name == "saved_model.pb" else ""
    start = 1
    while start < len(head) and head[start] & 0x80:  # the rest of a length, seven bits a byte
        start += 1
    return _GRAPH if head[:1] == b"\x0a" == head[start + 1 : start + 2] else ""


def _load_libraries(runtime: Runtime, libraries: Sequence[Path]) -> None:
    for library in libraries:
        try:
            runtime.tf.load_op_library(str(library))
        except Exception as error:
            raise ModelError(f"{library}: no library of operations for {runtime.build}: {plain(error)}") from error
