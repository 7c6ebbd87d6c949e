"""Models of TensorFlow and PyTorch, and folders of versions, in processes of their own that are killed at work."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import Start, first_line
from rawhttp import Raw, post
from version_folders import X, write
from waiting import wait_until

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer

LONG = 10**12  # rounds: more than any test has time for


def state(raw: Raw, name: str) -> tuple[int, int]:
    """The process of a model, and how often it was started again."""
    text = json.loads(raw.get("/").body)["status"][name]
    found = re.match(r"process (\d+), restarts: (\d+)", text)
    assert found is not None, text
    return int(found[1]), int(found[2])


def survives_a_crash(path: Path) -> None:
    """The model counts n rounds; it is killed in the middle of many, and answers again afterwards."""
    with BackgroundServer(path, isolate=True) as server, Raw(server.url) as raw, tw.Client(server.url) as client:
        name = server.app.service.models[0].name
        pid, restarts = state(raw, name)
        assert (pid != os.getpid(), restarts) == (True, 0)
        assert client.infer({"n": np.array(5, np.int64)}).arrays[0] == 5
        with Raw(server.url) as victim:
            victim.send(post(bytes(tw.encode(tw.Request({"n": np.array(LONG, np.int64)})))))
            wait_until(lambda: server.app.service.in_flight == 1)
            os.kill(pid, signal.SIGKILL)
            answer = victim.answer()
        assert (answer.status, answer.fields["retry-after"]) == (503, "1")
        assert "the model's process was ended by SIGKILL" in tw.decode(answer.body, tw.Response).errors[0].message
        wait_until(lambda: raw.get("/readyz").status == 200)
        after, restarts = state(raw, name)
        assert (after != pid, restarts) == (True, 1)
        assert client.infer({"n": np.array(7, np.int64)}).arrays[0] == 7


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="the model is TensorFlow's")
def test_tensorflow(tmp_path: Path) -> None:
    import tf_models

    tf = tf_models.tensorflow()

    @tf.function(input_signature=[tf.TensorSpec((), tf.int64, "n")])
    def serving_default(n: Any) -> Any:
        return {"y": tf.while_loop(lambda i: i < n, lambda i: (i + 1,), (tf.constant(0, tf.int64),))[0]}

    survives_a_crash(tf_models.saved(tmp_path / "counts", serving_default=serving_default))


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="the model is PyTorch's")
def test_torch(tmp_path: Path) -> None:
    import torch
    import torch_models

    class Counts(torch.nn.Module):
        def forward(self, n: torch.Tensor) -> torch.Tensor:
            i = torch.zeros_like(n)
            while bool(i < n):
                i = i + 1
            return i

    survives_a_crash(torch_models.script(Counts(), tmp_path / "counts.pt"))


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="the model is TensorFlow's")
def test_other_names_of_tensors_are_known_here_too(tmp_path: Path) -> None:
    import tf_models

    def build(tf: Any) -> None:
        tf.negative(tf.placeholder(tf.float32, (None,), "x"), "y")

    path = tf_models.save_graph(tmp_path / "graph.pb", build)
    with BackgroundServer(path, isolate=True) as server, tw.Client(server.url) as client:
        for x, y in (("x", "y"), ("x:0", "y:0")):
            assert client.infer({x: np.ones(2, np.float32)}, [y])[y].tolist() == [-1, -1]


def test_folders_of_versions(tmp_path: Path, start: Start) -> None:
    pytest.importorskip("onnxruntime", reason="these models run on onnxruntime")
    base = tmp_path / "a"
    write(base, 1, 10)
    process = start("-m", "tensorwire", "serve", "--isolate", "a", "--listen", f"unix:{tmp_path}/s", "--poll", "0.05")
    assert "listening on" in first_line(process)
    url = f"unix://{tmp_path}/s"

    def children() -> list[int]:
        """Of the process, whichever of its threads started them."""
        found: list[int] = []
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # threads come and go
                found += map(int, (thread / "children").read_text().split())
        return found

    with Raw(url) as raw, tw.Client(url) as client:

        def answers(version: str, factor: int) -> bool:
            about = json.loads(raw.get("/v1/models/a/metadata").body)
            assert about.get("name", "a") == "a"
            return bool(
                about.get("version") == version and client.infer({"x": X})["y"].tolist() == (X * factor).tolist()
            )

        wait_until(lambda: raw.get("/readyz").status == 200)
        assert answers("1", 10)
        first, _ = state(raw, "a")
        write(base, 2, 20)
        wait_until(lambda: answers("2", 20))
        second, _ = state(raw, "a")
        assert second != first
        wait_until(lambda: children() == [second])
        os.kill(second, signal.SIGKILL)
        wait_until(lambda: children() not in ([], [second]) and raw.get("/readyz").status == 200)
        third, restarts = state(raw, "a")
        assert (third != second, restarts) == (True, 1)
        assert answers("2", 20)
        shutil.rmtree(base / "1")
        write(base, 3, 30)
        wait_until(lambda: answers("3", 30))
        wait_until(lambda: len(children()) == 1)
