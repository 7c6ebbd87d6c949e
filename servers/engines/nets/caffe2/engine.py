"""The engine of Caffe2 networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorwire._messages import TensorSpec
from tensorwire.servers.engines.nets import inputs
from tensorwire.servers.engines.nets.caffe2.build import build
from tensorwire.servers.engines.nets.caffe2.fills import fill
from tensorwire.servers.engines.nets.caffe2.netdef import read_net
from tensorwire.servers.engines.nets.caffe2.recognize import init_net_beside, is_netdef, predict_net_in
from tensorwire.servers.engines.nets.files import naming
from tensorwire.servers.engines.nets.run import needs_onnx, prepare, run_graph
from tensorwire.servers.engines.options import Options
from tensorwire.servers.model import Model, ModelError

__all__ = ["ENGINE", "Caffe2Engine", "load_caffe2"]


class Caffe2Engine:
    """Loads pairs of an init net and a predict net: the folder of both, or the predict net's file.

    Options: ``init_net`` (the init net's file; default: the predict net's neighbour with init in its name),
    ``inputs`` ('data:float32[?,3,224,224]', with commas between several), ``value_inputs`` (GraphPipe's JSON file of
    the same), ``outputs`` (names of blobs), ``random_weights`` (1: let an init net that draws weights draw them), and
    those of the ONNX engine.
    """

    name = "caffe2"

    def recognizes(self, path: Path) -> bool:
        try:
            found = predict_net_in(path) if path.is_dir() else path
            return found is not None and found.is_file() and is_netdef(found)
        except OSError:
            return False

    def prepare(self) -> None:
        prepare()

    def load(self, path: Path, *, options: Mapping[str, Any]) -> Model:
        """Raises ModelError: no pair, no ONNX Runtime, not NetDefs, operators or weights that do not fit."""
        predict_net = path
        if path.is_dir():
            found = predict_net_in(path)
            if found is None:
                raise ModelError(f"{path}: no predict_net.pb or predict_net.pbtxt in this folder")
            predict_net = found
        given = dict(options)
        init_net = given.pop("init_net", None)
        beside = Path(init_net).expanduser() if init_net else init_net_beside(predict_net)
        if beside is None:
            raise ModelError(
                f"{predict_net}: its weights are missing: no init_net beside it; name it with option init_net"
            )
        return load_caffe2(beside, predict_net, name=path.stem, options=given)


ENGINE = Caffe2Engine()


def load_caffe2(
    init_net: str | Path,
    predict_net: str | Path,
    *,
    value_inputs: str | Path | Mapping[str, Any] | None = None,
    name: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Model:
    """Load a Caffe2 pair as a model that ONNX Runtime runs.

    ``value_inputs`` is GraphPipe's description of the inputs, a JSON file or what is in it:
    {"data": [1, [1, 3, 227, 227]]}. ``name`` is the model's, by default the predict net's file's stem. ``options`` are
    those of Caffe2Engine without ``init_net``. Raises ModelError.
    """
    init_path, path = Path(init_net), Path(predict_net)
    for file in (init_path, path):
        if not file.is_file():
            raise ModelError(f"no such file: {file}")
    needs_onnx(path, "caffe2")
    given = dict(options or {})
    own = Options("caffe2", {key: given.pop(key) for key in ("outputs", "random_weights") if key in given})
    specs = _specs(given.pop("inputs", None), value_inputs or given.pop("value_inputs", None))
    outputs, random_weights = own.names("outputs"), own.flag("random_weights")
    net, weights_net = read_net(path), read_net(init_path)
    with naming(init_path):
        weights = fill(weights_net, random_weights=random_weights)
    del weights_net  # it holds the weights a second time
    with naming(path):
        graph, operators = build(net, weights, specs, outputs)
    facts = {"format": "Caffe2 NetDef", "net": net.name, "operators": operators}
    model = run_graph(graph, path, facts=facts, options=given)
    model.name = name or path.stem
    return model


def _specs(option: Any, value_inputs: Any) -> tuple[TensorSpec, ...]:
    if option:
        return inputs.declared(option)
    return inputs.value_inputs(value_inputs) if value_inputs else ()
