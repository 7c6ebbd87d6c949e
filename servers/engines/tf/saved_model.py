"""SavedModels of TensorFlow 1 and 2: folders with saved_model.pb and variables/.

https://www.tensorflow.org/guide/saved_model
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tensorwire.servers.engines.tf.graph import all_nodes, check_channels_first, graph_facts
from tensorwire.servers.engines.tf.model import Call, cannot_load, prepare
from tensorwire.servers.engines.tf.runtime import Runtime
from tensorwire.servers.engines.tf.tensors import array_dtype
from tensorwire.servers.engines.tf.variables import check_variables
from tensorwire.servers.model import ModelError

__all__ = ["load_saved_model"]

_log = logging.getLogger("tensorwire.model")


def load_saved_model(
    runtime: Runtime, path: Path, tags: Sequence[str], *, xla: bool
) -> tuple[dict[str, Call], dict[str, str]]:
    """Its signatures by their own names, inputs and outputs under the signature's keys, and what its file says.

    ``tags`` choose one of several graphs in it; without them it is the only one, or that tagged 'serve'. A signature
    with inputs or outputs that are no tensors of numbers or text is left out.

    Raises ModelError: no SavedModel, no such tags, no signatures, files of variables missing or cut short, an unknown
    operation.
    """
    meta = _chosen(path, _parse(path), tags)
    check_channels_first(runtime, path, all_nodes(meta.graph_def))
    names = sorted(name for name in meta.signature_def if not name.startswith("__"))  # those are TensorFlow's own
    if not names:
        raise ModelError(
            f"{path}: the SavedModel has no signatures; save it with tf.saved_model.save(..., signatures=...), or a "
            "Keras model with model.export(...)"
        )
    check_variables(path)
    try:
        with runtime.placed():
            loaded = runtime.tf.saved_model.load(str(path), tags=list(meta.meta_info_def.tags))
    except Exception as error:
        raise ModelError(f"{path}: {_load_failure(runtime, path, meta, error)}") from error
    calls = {}
    for name in names:
        found = _call(runtime, path, name, loaded.signatures[name], meta.signature_def[name], loaded, xla)
        if found is not None:
            calls[name] = found
    about = meta.meta_info_def
    facts = {
        "format": "SavedModel of TensorFlow " + ("2" if meta.HasField("object_graph_def") else "1"),
        "written by": f"TensorFlow {about.tensorflow_version}" if about.tensorflow_version else "",
        "tags": ", ".join(about.tags),
        **graph_facts(meta.graph_def),
    }
    return calls, facts


def _call(runtime: Runtime, path: Path, name: str, function: Any, declared: Any, loaded: Any, xla: bool) -> Call | None:
    inputs = dict(function.structured_input_signature[1])
    outputs = dict(sorted(function.structured_outputs.items()))  # a protocol buffer's map has no order
    tf = runtime.tf
    odd = [
        key
        for key, tensor in (*inputs.items(), *outputs.items())
        if not isinstance(tensor, tf.Tensor | tf.TensorSpec) or array_dtype(tensor.dtype) is None
    ]
    if odd:
        _log.warning("%s: signature %r is not served: %r is no tensor of numbers or text", path, name, odd[0])
        return None
    keys = tuple(inputs)

    def compute(*tensors: Any) -> list[Any]:
        found = function(**dict(zip(keys, tensors, strict=True)))
        return [found[key] for key in outputs]

    return prepare(runtime, name, inputs, outputs, compute, xla=xla, owner=loaded)


def _parse(path: Path) -> Any:
    from tensorflow.core.protobuf import saved_model_pb2

    file = path / "saved_model.pb"
    found = saved_model_pb2.SavedModel()
    try:
        found.ParseFromString(file.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}: {file.name}") from None
    except Exception:
        raise ModelError(f"{path}: saved_model.pb is no SavedModel, or cut short") from None
    if not found.meta_graphs:
        raise ModelError(f"{path}: saved_model.pb is no SavedModel, or cut short: no graph in it")
    return found


def _chosen(path: Path, saved: Any, tags: Sequence[str]) -> Any:
    """The graph with the wanted tags."""
    graphs = {frozenset(meta.meta_info_def.tags): meta for meta in saved.meta_graphs}
    here = "; ".join(", ".join(sorted(there)) or "(none)" for there in graphs)
    if tags:
        if frozenset(tags) not in graphs:
            raise ModelError(f"{path}: no graph with the tags {', '.join(tags)}: there are {here}")
        return graphs[frozenset(tags)]
    if len(graphs) == 1:
        return next(iter(graphs.values()))
    if frozenset(["serve"]) not in graphs:
        raise ModelError(f"{path}: choose one of several graphs with --option tags=...: there are {here}")
    return graphs[frozenset(["serve"])]


def _load_failure(runtime: Runtime, path: Path, meta: Any, error: BaseException) -> str:
    index = path / "variables/variables.index"
    if not index.is_file() and "ariable" in str(error):
        return f"its variables are missing: no file {index}"
    written = meta.meta_info_def.tensorflow_version
    return cannot_load(runtime, error, f" (written by {written})" if written else "")
