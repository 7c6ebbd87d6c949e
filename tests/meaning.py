"""What a message says, in the oracle's words: between tensorwire's objects, the oracle's dicts, and JSON.

The dicts here hold every field, as the oracle's readers give them, and no `data_offset`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
from oracle import Layout, Message

import tensorwire as tw

AnyMessage = tw.Request | tw.MetadataRequest | tw.Response | tw.Metadata

TYPES: dict[str, Any] = {
    "InferRequest": tw.Request,
    "MetadataRequest": tw.MetadataRequest,
    "InferResponse": tw.Response,
    "MetadataResponse": tw.Metadata,
}
"""The class of each message, by the oracle's name for it."""

TYPE_NAMES = {wire: dtype.name for wire, dtype in oracle.WIRE_TYPES.items()} | {0: "null", 12: "string"}
"""The names that tensorwire gives to the wire's types, which goldens use too."""

_NAMED = {
    "config": "config",
    "model_name": "model",
    "model_version": "version",
    "model_label": "label",
    "signature": "signature",
    "request_id": "id",
    "deadline_ms": "deadline_ms",
}


def of(message: AnyMessage) -> Message:
    """Say what one of tensorwire's messages means."""
    match message:
        case tw.MetadataRequest():
            return {"message": "MetadataRequest"}
        case tw.Request():
            return {
                "message": "InferRequest",
                "input_names": list(message.inputs.names),
                "input_tensors": [tensor_of(array) for array in message.inputs.arrays],
                "output_names": list(message.outputs),
                **{key: getattr(message, name) for key, name in _NAMED.items()},
            }
        case tw.Response():
            return {
                "message": "InferResponse",
                "output_tensors": [tensor_of(array) for array in message.outputs.arrays],
                "errors": [{"code": error.code, "message": error.message} for error in message.errors],
                "output_names": list(message.outputs.names),
            }
        case tw.Metadata():
            fields = {key: getattr(message, key) for key in ("name", "version", "server", "description")}
            specs = {key: [_spec_of(spec) for spec in getattr(message, key)] for key in ("inputs", "outputs")}
            return {"message": "MetadataResponse", **fields, **specs}
    raise TypeError(type(message))


def tensor_of(array: Any) -> Message:
    """Say what an array means; unlike `oracle.as_tensor`, of misaligned memory too."""
    return oracle.as_tensor(np.array(array))


def _spec_of(spec: tw.TensorSpec) -> Message:
    wire = {dtype: wire for wire, dtype in oracle.WIRE_TYPES.items()} | {None: 0, np.dtype(object): 12}
    return {
        "name": spec.name,
        "description": spec.description,
        "shape": list(spec.shape),
        "type": wire[spec.dtype],
    }


def message_from(meaning: Message) -> AnyMessage:
    """Make tensorwire's message of a meaning, any of whose fields may be missing."""
    kind = TYPES[meaning["message"]]
    full = oracle.blank(meaning["message"]) | meaning
    if kind is tw.Request:
        named = {name: full[key] for key, name in _NAMED.items()}
        return tw.Request(_tensors_from(full, "input"), full["output_names"], **named)
    if kind is tw.Response:
        errors = [tw.Status(error["code"], error["message"]) for error in full["errors"]]
        return tw.Response(_tensors_from(full, "output"), errors)
    if kind is tw.Metadata:
        fields = {key: full[key] for key in ("name", "version", "server", "description")}
        specs = {key: [_spec_from(spec) for spec in full[key]] for key in ("inputs", "outputs")}
        return tw.Metadata(**fields, **specs)
    return tw.MetadataRequest()


def _tensors_from(full: Message, prefix: str) -> Any:
    arrays = [oracle.as_array(tensor) for tensor in full[f"{prefix}_tensors"]]
    names = full[f"{prefix}_names"]
    return dict(zip(names, arrays, strict=True)) if names else arrays


def _spec_from(spec: Message) -> tw.TensorSpec:
    dtype = {0: None, 12: np.dtype(object)}.get(spec["type"], oracle.WIRE_TYPES.get(spec["type"]))
    return tw.TensorSpec(spec["name"], dtype, spec["shape"], spec["description"])


def read(buf: Any, name: str) -> Message:
    """Read with the oracle, as the kind of message that is named."""
    readers = {
        "InferResponse": oracle.read_infer_response,
        "MetadataResponse": oracle.read_metadata_response,
    }
    return oracle.without_offsets(readers.get(name, oracle.read_request)(buf))


def build(meaning: Message, layout: Layout = oracle.PLAIN) -> bytes:
    """Write with the oracle."""
    writers = {
        "InferResponse": oracle.build_infer_response,
        "MetadataResponse": oracle.build_metadata_response,
    }
    return writers.get(meaning["message"], oracle.build_request)(meaning, layout)


def to_json(meaning: Message) -> Message:
    """A meaning in JSON's types: dtypes by name, payloads and the strings of tensors in hexadecimal."""

    def tensor(given: Message) -> Message:
        shown: Message = {"type": TYPE_NAMES[given["type"]], "shape": given["shape"]}
        if given["type"] == oracle.STRING:
            return shown | {"strings": [each.hex() for each in given["strings"]]}
        return shown | {"data": given["data"].hex()}

    return _each(meaning, tensor, lambda spec: spec | {"type": TYPE_NAMES[spec["type"]]})


def from_json(shown: Message) -> Message:
    """The meaning that `to_json` was given."""
    wire = {name: value for value, name in TYPE_NAMES.items()}

    def tensor(given: Message) -> Message:
        meant: Message = {"type": wire[given["type"]], "shape": given["shape"]}
        if "strings" in given:
            return meant | {"strings": [bytes.fromhex(each) for each in given["strings"]]}
        return meant | {"data": bytes.fromhex(given["data"])}

    return _each(shown, tensor, lambda spec: spec | {"type": wire[spec["type"]]})


def _each(message: Message, tensor: Any, spec: Any) -> Message:
    changed = {"input_tensors": tensor, "output_tensors": tensor, "inputs": spec, "outputs": spec}
    return {key: [changed[key](part) for part in value] if key in changed else value for key, value in message.items()}
