"""A framework called directly, as its own users do.

``python -m bench.engines.direct FRAMEWORK PATH SHAPE DEVICE ANSWER``

With the framework's own settings, in a process of its own that does nothing else. What it answered first goes into
the file ANSWER (.npz), in the model's order; then it takes turns.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.turns import take_turns
from bench.workload import Array, floats

Call = Callable[[Array], list[Any]]


def tensorflow(path: str, device: str) -> Call:
    """A frozen graph in a session, which is what they are made for; on the device that TensorFlow chooses."""
    import tensorflow as tf

    graph_def = tf.compat.v1.GraphDef()
    with open(path, "rb") as file:  # noqa: PTH123
        graph_def.ParseFromString(file.read())
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    taken = {name.partition(":")[0] for node in graph_def.node for name in node.input}
    feed = next(f"{node.name}:0" for node in graph_def.node if node.op == "Placeholder")
    fetches = [f"{node.name}:0" for node in graph_def.node if node.name not in taken]
    session = tf.compat.v1.Session(graph=graph)
    return lambda x: session.run(fetches, {feed: x})


def onnx(path: str, device: str) -> Call:
    import onnxruntime

    if device == "cpu":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    else:
        onnxruntime.preload_dlls()
        provider = ("CUDAExecutionProvider", {"device_id": device.partition(":")[2]})
        session = onnxruntime.InferenceSession(path, providers=[provider])
        if session.get_providers()[0] != provider[0]:
            raise RuntimeError("this ONNX Runtime does not start CUDA")
    feed = session.get_inputs()[0].name
    return lambda x: session.run(None, {feed: x})


def torch(path: str, device: str) -> Call:
    import torch

    module = torch.jit.load(path, device).eval()

    def call(x: Array) -> list[Any]:
        with torch.inference_mode():
            return [module(torch.from_numpy(x).to(device)).cpu().numpy()]

    return call


FRAMEWORKS = {"tensorflow": tensorflow, "onnx": onnx, "torch": torch}


def main(framework: str, path: str, shape: str, device: str, answer: str) -> None:
    x = floats(tuple(map(int, shape.split(","))))
    call = FRAMEWORKS[framework](path, device)
    np.savez(answer, *call(x))
    take_turns(lambda: call(x))


if __name__ == "__main__":
    main(*sys.argv[1:])
