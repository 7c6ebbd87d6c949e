"""What serving an ONNX model loads, and what it leaves alone."""

from __future__ import annotations

import signal

import pytest
from processes import Start, first_line

pytest.importorskip("onnxruntime", reason="this model runs on onnxruntime")

FRAMEWORKS = {
    "tensorflow", "keras", "torch", "sklearn", "scipy", "pandas", "xgboost", "lightgbm", "skops", "joblib",
    "onnx", "google", "onnxruntime_extensions", "fsspec", "aiohttp", "matplotlib", "requests", "flatbuffers",
    "numpy.testing", "ml_dtypes",
}  # fmt: skip
COMMANDS = {"rich.console", "rich.table", "tensorwire.servers.doctor"}


def test_the_embedded_model_is_ready_without_another_framework(start: Start) -> None:
    """``-X importtime`` writes a line for each module that is imported."""
    server = start("-X", "importtime", "-m", "tensorwire", "serve", "--listen", "127.0.0.1:0")
    assert first_line(server).startswith("listening on ")
    server.send_signal(signal.SIGTERM)
    _, log = server.communicate(timeout=60)
    loaded = {line.rpartition("|")[2].strip() for line in log.splitlines() if line.startswith("import time:")}
    assert {"onnxruntime", "tensorwire.servers.engines.ort.engine", "uvloop"} <= loaded
    packages = {name.partition(".")[0] for name in loaded} | loaded
    assert not packages & (FRAMEWORKS | COMMANDS)
