"""ONNX models, run by ONNX Runtime, without a copy of tensor data in either direction.

``ENGINE`` is what the entry point ``onnx`` names; ONNX Runtime is imported when it loads a model.
"""

from __future__ import annotations

from tensorwire.servers.engines.ort.engine import ENGINE, OrtEngine, available_providers

__all__ = ["ENGINE", "OrtEngine", "available_providers"]
