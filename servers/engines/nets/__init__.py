"""Networks of Caffe2 and MXNet, turned into ONNX graphs when they are loaded, and run by ONNX Runtime."""

from __future__ import annotations
