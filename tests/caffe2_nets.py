"""Caffe2 networks for tests: operators and fills as messages, written as init and predict nets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorwire.servers.engines.nets.caffe2.proto import messages

__all__ = ["Op", "init_net", "operator", "predict_net", "write"]

Op = Any
"""An OperatorDef."""


def operator(kind: str, inputs: Sequence[str], outputs: Sequence[str], **arguments: Any) -> Op:
    """An OperatorDef; arguments are ints, floats, strings, or lists of ints or floats."""
    op = messages().OperatorDef(type=kind, input=inputs, output=outputs)
    for name, value in arguments.items():
        argument = op.arg.add(name=name)
        if isinstance(value, bool | int | np.integer):
            argument.i = int(value)
        elif isinstance(value, float):
            argument.f = value
        elif isinstance(value, str | bytes):
            argument.s = value.encode() if isinstance(value, str) else value
        elif len(value) and isinstance(value[0], float | np.floating):
            argument.floats.extend(value)
        else:
            argument.ints.extend(int(item) for item in value)
    return op


def predict_net(
    operators: Sequence[Op], inputs: Sequence[str] = (), outputs: Sequence[str] = (), name: str = "net"
) -> Any:
    return messages().NetDef(name=name, op=operators, external_input=inputs, external_output=outputs)


def init_net(weights: Mapping[str, NDArray[Any]], extra: Sequence[Op] = ()) -> Any:
    """A net of GivenTensorFills (float32) and GivenTensorInt64Fills."""
    operators = []
    for name, array in weights.items():
        op = operator("GivenTensorFill" if array.dtype.kind == "f" else "GivenTensorInt64Fill", [], [name])
        op.arg.add(name="shape").ints.extend(array.shape)
        values = op.arg.add(name="values")
        (values.floats if array.dtype.kind == "f" else values.ints).extend(array.ravel().tolist())
        operators.append(op)
    return messages().NetDef(name="init", op=[*operators, *extra])


def write(folder: Path, predict: Any, weights: Mapping[str, NDArray[Any]] | Any) -> Path:
    """Writes init_net.pb and predict_net.pb to a folder, which is made, and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    init = init_net(weights) if isinstance(weights, Mapping) else weights
    (folder / "init_net.pb").write_bytes(init.SerializeToString())
    (folder / "predict_net.pb").write_bytes(predict.SerializeToString())
    return folder
