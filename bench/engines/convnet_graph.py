"""A small net of channels-first convolutions as a frozen GraphDef: ``python -m bench.engines.convnet_graph PATH``.

For where there is no file of a real one: a board of two planes in, a policy and a value out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from bench.engines.models import BOARD

_CHANNELS = 64
_LAYERS = 5


def make() -> Any:
    """The GraphDef: input_1 [N, 2, 6, 7] to policy [N, 7] and value [N, 1], float32."""
    random = np.random.default_rng(0)

    def weight(*shape: int) -> Any:
        scale = np.float32((2 / np.prod(shape[:-1])) ** 0.5)
        return tf.constant(random.standard_normal(shape, dtype=np.float32) * scale)

    graph = tf.Graph()
    with graph.as_default():
        y = tf.compat.v1.placeholder(tf.float32, [None, *BOARD], name="input_1")
        taken = BOARD[0]
        for _ in range(_LAYERS):
            y = tf.nn.relu(tf.nn.conv2d(y, weight(3, 3, taken, _CHANNELS), 1, "SAME", data_format="NCHW"))
            taken = _CHANNELS
        flat = tf.reshape(y, [-1, _CHANNELS * BOARD[1] * BOARD[2]])
        tf.nn.softmax(tf.matmul(flat, weight(flat.shape[1], BOARD[2])), name="policy")
        tf.tanh(tf.matmul(flat, weight(flat.shape[1], 1)), name="value")
    return graph.as_graph_def()


if __name__ == "__main__":
    made = make()
    Path(sys.argv[1]).write_bytes(made.SerializeToString())
    print(json.dumps(len(made.node)))
