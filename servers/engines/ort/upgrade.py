"""Models of opsets that ONNX Runtime no longer runs, rewritten by onnx's version converter.

The converter: https://onnx.ai/onnx/api/version_converter.html. ONNX Runtime promises opset 7 and newer:
https://onnxruntime.ai/docs/reference/compatibility.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tensorwire.servers.model import ModelError

__all__ = ["OLDEST", "upgrade"]

OLDEST = 7
"""The opset that models are upgraded to: every step of the converter's is one more that may fail."""

_BEFORE_BROADCASTING = 6  # the last opset whose operators say by attributes how shapes are aligned
_ALIGNED = ("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less", "PRelu")
_LONGEST_REASON = 200


def upgrade(path: Path, opset: int) -> bytes:
    """The model as of opset 7. Raises ModelError: onnx is not installed, or cannot convert it."""
    remedy = f"{path}: was written for opset {opset}, ONNX Runtime runs opset {OLDEST} and newer"
    try:
        import onnx
        from onnx import version_converter
    except ImportError:
        raise ModelError(f"{remedy}; run: pip install onnx, and it is converted when it is loaded") from None
    try:
        model = onnx.load(str(path))
        if not model.opset_import:
            model.opset_import.add(domain="", version=opset)
        _complete_pads(model)
        if opset < _BEFORE_BROADCASTING:
            model = version_converter.convert_version(model, _BEFORE_BROADCASTING)
        _align(model)
        converted: bytes = version_converter.convert_version(model, OLDEST).SerializeToString()
        return converted
    except Exception as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise ModelError(
            f"{remedy}, and onnx cannot convert it ({reason}): export it again for opset 13 or newer"
        ) from error


def _complete_pads(model: Any) -> None:
    """Early exporters wrote one padding for each axis, where the operators want its begin and its end."""
    for node in model.graph.node:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        pads, kernel = attributes.get("pads"), attributes.get("kernel_shape")
        if pads is not None and kernel is not None and len(pads.ints) == len(kernel.ints):
            pads.ints.extend(list(pads.ints))


def _align(model: Any) -> None:
    """Align the second operand by an Unsqueeze, where an attribute says to which axis of the first it belongs.

    Since opset 7 shapes are aligned at their ends. The converter does that itself, but gives the results of two
    nodes one name, and wants all shapes to be known: https://github.com/onnx/onnx/issues/2873
    """
    from onnx import helper, shape_inference

    ranks = _ranks(shape_inference.infer_shapes(model))
    nodes = []
    for node in model.graph.node:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type in _ALIGNED and "broadcast" in attributes:
            if attributes["broadcast"].i and "axis" in attributes:
                first, second = node.input
                if first not in ranks or second not in ranks:
                    raise ValueError(f"the rank of an operand of {node.op_type} is not known")
                behind = ranks[first] - attributes["axis"].i % ranks[first] - ranks[second]
                if behind > 0:
                    aligned = f"{second}/aligned/{node.output[0]}"
                    axes = list(range(ranks[second], ranks[second] + behind))
                    nodes.append(helper.make_node("Unsqueeze", [second], [aligned], axes=axes))
                    node.input[1] = aligned
            kept = [attribute for attribute in node.attribute if attribute.name not in ("axis", "broadcast")]
            del node.attribute[:]
            node.attribute.extend(kept)
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _ranks(model: Any) -> dict[str, int]:
    graph = model.graph
    found = {
        value.name: len(value.type.tensor_type.shape.dim)
        for values in (graph.value_info, graph.input, graph.output)
        for value in values
        if value.type.tensor_type.HasField("shape")
    }
    return found | {tensor.name: len(tensor.dims) for tensor in graph.initializer}
