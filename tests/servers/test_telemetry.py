"""A server sends nothing to anybody of its own accord."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("onnxruntime")

SCRIPT = """
import os, sys
from tensorwire.servers.engines.ort import ENGINE
assert "onnxruntime" not in sys.modules
ENGINE.prepare()
assert "onnxruntime" in sys.modules
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""


@pytest.mark.parametrize("said", [None, "0"])
def test_onnx_runtime_is_told_before_it_is_imported(said: str | None) -> None:
    env = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    if said is not None:
        env["ORT_DISABLE_TELEMETRY"] = said
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (said or "1", "")
