"""The engine of MXNet networks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorwire._messages import TensorSpec
from tensorwire.servers.engines.nets import inputs
from tensorwire.servers.engines.nets.files import naming, printable
from tensorwire.servers.engines.nets.mxnet.build import build
from tensorwire.servers.engines.nets.mxnet.params import read_params
from tensorwire.servers.engines.nets.mxnet.symbol import read_symbol
from tensorwire.servers.engines.nets.run import needs_onnx, prepare, run_graph
from tensorwire.servers.engines.options import Options
from tensorwire.servers.model import Model, ModelError

__all__ = ["ENGINE", "MxnetEngine"]

_SYMBOL = "-symbol.json"
_HEAD = 2**16
_NODE = re.compile(rb'"nodes"\s*:\s*\[\s*\{[^{}]*"op"\s*:\s*"')


class MxnetEngine:
    """Loads a symbol (NAME-symbol.json) and its parameters (NAME-0000.params): the symbol's file, or the folder.

    Options: ``params`` (the parameters' file; default: beside the symbol, that of the highest epoch), ``inputs``
    ('data:float32[?,3,224,224]', with commas between several; default: what NAME-signature.json or signature.json
    beside the symbol says), ``outputs`` (names of nodes), and those of the ONNX engine.
    """

    name = "mxnet"

    def recognizes(self, path: Path) -> bool:
        try:
            symbol = _symbol_in(path) if path.is_dir() else path
            if symbol is None or symbol.suffix.lower() != ".json" or not symbol.is_file():
                return False
            with symbol.open("rb") as file:
                return _NODE.search(file.read(_HEAD)) is not None
        except OSError:
            return False

    def prepare(self) -> None:
        prepare()

    def load(self, path: Path, *, options: Mapping[str, Any]) -> Model:
        """Raises ModelError: no pair, no ONNX Runtime, damaged files, operators or weights that do not fit."""
        symbol_path = path
        if path.is_dir():
            found = _symbol_in(path)
            if found is None:
                raise ModelError(f"{path}: not one file in this folder is called NAME{_SYMBOL}")
            symbol_path = found
        needs_onnx(path, "mxnet")
        given = dict(options)
        params = given.pop("params", None)
        params_path = Path(params).expanduser() if params else _newest_params(symbol_path)
        if not params_path.is_file():
            raise ModelError(f"no such file: {params_path}")
        own = Options(self.name, {key: given.pop(key) for key in ("outputs",) if key in given})
        declared = given.pop("inputs", None)
        symbol, weights = read_symbol(symbol_path), read_params(params_path)
        specs = inputs.declared(declared) if declared else _signature_beside(symbol_path)
        with naming(symbol_path):
            graph, operators = build(symbol, weights, specs, own.names("outputs"))
        facts = {"format": "MXNet symbol and parameters", "parameters": params_path.name, "operators": operators}
        model = run_graph(graph, symbol_path, facts=facts, options=given)
        model.name = path.stem.removesuffix("-symbol")
        return model


ENGINE = MxnetEngine()


def _symbol_in(folder: Path) -> Path | None:
    """The only symbol of a folder. Raises OSError."""
    found = [path for path in folder.iterdir() if path.name.endswith(_SYMBOL)]
    return found[0] if len(found) == 1 else None


def _newest_params(symbol: Path) -> Path:
    """The parameters beside a symbol that have its name and the highest number. Raises ModelError."""
    prefix = symbol.name.removesuffix(".json").removesuffix("-symbol")
    found = [
        path
        for path in symbol.parent.iterdir()
        if path.suffix == ".params" and re.fullmatch(r"-\d{4,9}", path.stem.removeprefix(prefix))
    ]
    if found:
        return max(found, key=lambda path: int(path.stem.rpartition("-")[2]))
    alone = symbol.with_name(f"{prefix}.params")
    if alone.is_file():
        return alone
    raise ModelError(f"{symbol}: its weights are missing: no {prefix}-0000.params beside it; set option params")


def _signature_beside(symbol: Path) -> tuple[TensorSpec, ...]:
    """The inputs in the JSON that model servers of MXNet put beside a symbol; none without such a file.

    {"inputs": [{"data_name": "data", "data_shape": [1, 3, 224, 224]}], ...}, as in
    https://github.com/awslabs/multi-model-server/blob/master/docs/README.md. Raises ModelError.
    """
    prefix = symbol.name.removesuffix(".json").removesuffix("-symbol")
    for path in (symbol.with_name(f"{prefix}-signature.json"), symbol.with_name("signature.json")):
        if path.is_file():
            with naming(path):
                return _signature(inputs.read_json(path))
    return ()


def _signature(found: Any) -> tuple[TensorSpec, ...]:
    entries = found.get("inputs") if isinstance(found, dict) else None
    specs = []
    for entry in entries if isinstance(entries, list) else (None,):
        if not isinstance(entry, dict) or not isinstance(entry.get("data_name"), str):
            raise ModelError(f"{printable(str(entry))} is not an input with data_name and data_shape")
        name = entry["data_name"]
        specs.append(TensorSpec(name, None, inputs.sizes_of(name, entry.get("data_shape"))))
    return tuple(specs)
