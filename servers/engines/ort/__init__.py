"""ONNX models, run by ONNX Runtime, without a copy of tensor data in either direction.

``ENGINE`` is what the entry point ``onnx`` names; ONNX Runtime is imported when it loads a model.
"""

from __future__ import annotations

import os

from tensorwire.servers.engines.ort.engine import ENGINE, OrtEngine, available_providers

__all__ = ["ENGINE", "OrtEngine", "available_providers"]

# From 1.29 on its packages tell their maker of models and runs, over the network, unless this is there when it is
# imported: https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
