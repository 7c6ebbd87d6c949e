"""Frozen graphs: a GraphDef whose weights are constants, as GraphPipe's TensorFlow server takes them.

Names follow that server (https://github.com/oracle/graphpipe-go/blob/master/cmd/graphpipe-tf/main.go): a tensor is
'node:0', and 'node' means the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from tensorwire.servers.engines.tf.model import Call, cannot_load, plain, prepare
from tensorwire.servers.engines.tf.runtime import Runtime, runs_channels_first
from tensorwire.servers.engines.tf.tensors import array_dtype
from tensorwire.servers.model import DEFAULT_SIGNATURE, ModelError

__all__ = ["all_nodes", "check_channels_first", "graph_facts", "load_graph"]

_UNFROZEN = ("Variable", "VariableV2", "VarHandleOp")
_NO_OUTPUTS = ("Const", "CheckNumerics", "Placeholder", "PlaceholderWithDefault")


def load_graph(
    runtime: Runtime, path: Path, inputs: Sequence[str], outputs: Sequence[str], *, xla: bool
) -> tuple[dict[str, Call], dict[str, str]]:
    """The one signature of a graph, and what its file says. Without names, its inputs are the placeholders, its outputs
    the tensors of nodes that no other node takes in.

    Raises ModelError: no graph, an unknown operation, a name that is not in it, not frozen.
    """
    tf = runtime.tf
    graph_def = _parse(tf, path)
    container = uuid4().hex.encode()
    for node in all_nodes(graph_def):  # tables and queues of two models must not meet
        if "container" in node.attr:
            node.attr["container"].s = container

    def put() -> None:
        tf.compat.v1.import_graph_def(graph_def, name="")

    try:
        with runtime.placed():
            whole = tf.compat.v1.wrap_function(put, [])
    except Exception as error:
        raise ModelError(f"{path}: {cannot_load(runtime, error)}") from error
    feeds = _tensors(path, whole.graph, "inputs", inputs or _placeholders(graph_def))
    fetches = _tensors(path, whole.graph, "outputs", outputs or _ends(graph_def))
    if not outputs:
        fetches = {name: tensor for name, tensor in fetches.items() if array_dtype(tensor.dtype) is not None}
    if not fetches:
        raise ModelError(f"{path}: the graph has no output; name some with --outputs")
    for name, tensor in (*feeds.items(), *fetches.items()):
        if array_dtype(tensor.dtype) is None:
            raise ModelError(f"{path}: tensor {name!r} is of {tensor.dtype.name}, which cannot be sent")
    try:
        pruned = whole.prune(list(feeds.values()), list(fetches.values()))
    except Exception as error:
        raise ModelError(
            f"{path}: the outputs need more inputs than {', '.join(feeds) or 'none'}: {plain(error)}"
        ) from error
    _check_frozen(path, pruned.graph)
    check_channels_first(runtime, path, all_nodes(graph_def))
    aliases = {name[:-2]: name for name in (*feeds, *fetches) if name.endswith(":0")}
    call = prepare(
        runtime, DEFAULT_SIGNATURE, feeds, fetches, lambda *tensors: pruned(*tensors), xla=xla, aliases=aliases
    )
    facts = {"format": "TensorFlow graph", **graph_facts(graph_def)}
    return {DEFAULT_SIGNATURE: call}, facts


def all_nodes(graph_def: Any) -> list[Any]:
    """The operations of a graph and of the functions in it, as NodeDefs."""
    return [*graph_def.node, *(node for function in graph_def.library.function for node in function.node_def)]


def graph_facts(graph_def: Any) -> dict[str, str]:
    """How many operations a GraphDef has, and which version of the format."""
    facts = {"operations": str(len(all_nodes(graph_def)))}
    if graph_def.versions.producer:
        facts["graph version"] = str(graph_def.versions.producer)
    return facts


def check_channels_first(runtime: Runtime, path: Path, nodes: Iterable[Any]) -> None:
    """Raises ModelError for convolutions in NCHW order on a CPU whose TensorFlow runs them in NHWC alone."""
    if runtime.device == "cpu" and any(map(_channels_first, nodes)) and not runs_channels_first(runtime.tf):
        raise ModelError(
            f"{path}: its convolutions have channels first (NCHW), which {runtime.build} cannot run on a CPU: "
            "unset TF_ENABLE_ONEDNN_OPTS or set it to 1, where the build has oneDNN, or run it on a GPU"
        )


def _parse(tf: Any, path: Path) -> Any:
    graph_def = tf.compat.v1.GraphDef()
    data = path.read_bytes()
    if not data:
        raise ModelError(f"{path}: the file is empty")
    try:
        graph_def.ParseFromString(data)
    except Exception:
        raise ModelError(f"{path}: not a TensorFlow graph, or cut short") from None
    if not graph_def.node or not all(node.name and node.op for node in graph_def.node):
        raise ModelError(f"{path}: not a TensorFlow graph: no operations in it")
    return graph_def


def _placeholders(graph_def: Any) -> list[str]:
    return [f"{node.name}:0" for node in graph_def.node if node.op == "Placeholder"]


def _ends(graph_def: Any) -> list[str]:
    """The nodes that no other takes in; an operation's outputs are counted later, so 'node:*' stands for all."""
    taken = {name.partition(":")[0] for node in graph_def.node for name in node.input}
    return [f"{node.name}:*" for node in graph_def.node if node.name not in taken and node.op not in _NO_OUTPUTS]


def _tensors(path: Path, graph: Any, option: str, names: Iterable[str]) -> dict[str, Any]:
    """Tensors of a graph by their full names. Raises ModelError for a name that is not there."""
    found: dict[str, Any] = {}
    for name in names:
        try:
            if name.endswith(":*"):
                found |= {tensor.name: tensor for tensor in graph.get_operation_by_name(name[:-2]).outputs}
                continue
            tensor = graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
        except (KeyError, ValueError, TypeError):
            raise ModelError(f"{path}: option {option}: the graph has no tensor {name!r}") from None
        found[tensor.name] = tensor
    return found


def _check_frozen(path: Path, graph: Any) -> None:
    variables = [operation.name for operation in graph.get_operations() if operation.type in _UNFROZEN]
    if variables:
        raise ModelError(
            f"{path}: the graph is not frozen: the values of {len(variables)} variables are not in it "
            f"({variables[0]!r} is one); freeze it, or serve the SavedModel"
        )


def _channels_first(node: Any) -> bool:
    return "Conv" in node.op and "data_format" in node.attr and node.attr["data_format"].s == b"NCHW"
