"""``tensorwire serve --echo`` as a process of its own."""

from __future__ import annotations

import signal

import numpy as np
from processes import Start, first_line
from waiting import PATIENCE

import tensorwire as tw


def test_tensors_come_back_as_they_were_sent(start: Start) -> None:
    process = start("-m", "tensorwire", "serve", "--echo", "--listen", "127.0.0.1:0", "--no-access-log")
    url = first_line(process).split()[2]
    assert first_line(process) == "serving echo (echo): anything -> anything"
    with tw.Client(url) as client:
        x = np.arange(6, dtype=np.int16).reshape(2, 3)
        assert np.array_equal(client.infer({"x": x, "t": np.array([b"a"], object)})["x"], x)
        assert client.metadata().name == "echo"
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
