"""What an ONNX file says of itself, read without an ONNX library and without its tensors' data.

The file is a ModelProto of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; numbers of fields are from there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from tensorwire.servers.engines.ort.protobuf import Field, Reader, varints

__all__ = ["External", "OnnxFile", "class_labels", "is_onnx", "read_onnx"]

_IR_VERSION, _PRODUCER_NAME, _PRODUCER_VERSION, _GRAPH, _OPSET_IMPORT, _FUNCTIONS = 1, 2, 3, 7, 8, 25
_MODEL_FIELDS = frozenset((1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26))
_NODE, _INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 5, 11, 12
_EXTERNAL = 1  # TensorProto.DataLocation
_MOST_TOP_LEVEL = 10_000
_ORT_FORMAT = b"ORTM"  # of ONNX Runtime's own format: the identifier of its flatbuffer, at offset 4
_LONGEST_LABELS = 1 << 20
_MOST_DIMS = 64


@dataclass(frozen=True)
class External:
    """Where data of a tensor stands outside the model; ``length`` None: as much as the tensor has."""

    tensor: str
    location: str
    offset: int
    length: int | None


@dataclass
class OnnxFile:
    """An ONNX file without its nodes and data.

    ``opsets`` are versions by domain ("" is ONNX's own), ``parameters`` the number of elements in initializers,
    ``descriptions`` the doc strings of inputs and outputs by name.
    """

    ir_version: int = 0
    has_graph: bool = False
    producer: str = ""
    opsets: dict[str, int] = field(default_factory=dict)
    functions: int = 0
    parameters: int = 0
    externals: list[External] = field(default_factory=list)
    descriptions: dict[str, str] = field(default_factory=dict)

    @property
    def opset(self) -> int | None:
        """The version of ONNX's own operators, 1 for a file from before there were any; None: it uses none of them."""
        return self.opsets.get("") if self.opsets else 1

    def facts(self, folder: Path) -> dict[str, str]:
        """For people. ``folder`` is where external data is."""
        found = {}
        if self.ir_version:
            found["IR version"] = str(self.ir_version)
        if self.producer:
            found["producer"] = self.producer
        if self.opsets:
            texts = (f"{version} of {domain}" if domain else str(version) for domain, version in self.opsets.items())
            found["opset"] = ", ".join(texts)
        if self.functions:
            found["functions"] = str(self.functions)
        if self.parameters:
            found["parameters"] = f"{self.parameters:,}"
        if self.externals:
            files = {folder / external.location for external in self.externals}
            size = sum(file.stat().st_size for file in files if file.is_file())
            found["external data"] = f"{size:,} bytes in {len(files)} file{'s' * (len(files) != 1)}"
        return found


@contextmanager
def _reader(source: Path | bytes) -> Iterator[Reader]:
    if isinstance(source, bytes):
        yield Reader(BytesIO(source), len(source))
        return
    with source.open("rb") as file:
        yield Reader(file, source.stat().st_size)


def is_onnx(path: Path) -> bool:
    """True for a file that reads like an ONNX model whatever its name: the fields of a ModelProto, and a graph."""
    try:
        with path.open("rb") as file:
            if file.read(8)[4:] == _ORT_FORMAT:
                return True
            reader = Reader(file, path.stat().st_size)
            version = graph = False
            for count, each in enumerate(reader.fields()):
                if each.number not in _MODEL_FIELDS or count > _MOST_TOP_LEVEL:
                    return False
                if each.number == _IR_VERSION:
                    version = each.end is None and each.value > 0
                graph = graph or (each.number == _GRAPH and each.end is not None)
            return version and graph
    except (OSError, ValueError):
        return False


def read_onnx(source: Path | bytes) -> OnnxFile | None:
    """The file's head, from a path or from its bytes.

    None when it is no protocol buffer (ONNX Runtime's own format among them), or cut short.
    """
    found = OnnxFile()
    producer: dict[int, str] = {}
    try:
        with _reader(source) as reader:
            for each in reader.fields():
                if each.number == _IR_VERSION:
                    found.ir_version = each.value
                elif each.number in (_PRODUCER_NAME, _PRODUCER_VERSION):
                    producer[each.number] = reader.text(each)
                elif each.number == _OPSET_IMPORT:
                    domain, version = _opset(reader, each)
                    found.opsets[domain] = version
                elif each.number == _FUNCTIONS:
                    found.functions += 1
                elif each.number == _GRAPH:
                    found.has_graph = True
                    _read_graph(reader, each, found)
    except (OSError, ValueError):
        return None
    found.producer = " ".join(producer[number] for number in sorted(producer)).strip()
    return found


def class_labels(source: Path | bytes, output: str) -> list[int] | list[str] | None:
    """The labels of the ZipMap node that gives an output, in the model's order; None when there is no such node."""
    try:
        with _reader(source) as reader:
            for top in reader.fields():
                if top.number != _GRAPH:
                    continue
                for each in reader.fields(top):
                    if each.number == _NODE and (labels := _zipmap_labels(reader, each, output)) is not None:
                        return labels
    except (OSError, ValueError):
        pass
    return None


def _read_graph(reader: Reader, graph: Field, found: OnnxFile) -> None:
    for each in reader.fields(graph):
        if each.number == _INITIALIZER:
            _read_tensor(reader, each, found)
        elif each.number in (_GRAPH_INPUT, _GRAPH_OUTPUT):
            texts = {part.number: reader.text(part) for part in reader.fields(each) if part.number in (1, 3)}
            if texts.get(3):
                found.descriptions[texts.get(1, "")] = " ".join(texts[3].split())


def _read_tensor(reader: Reader, tensor: Field, found: OnnxFile) -> None:
    """TensorProto: dims 1, name 8, external_data 13, data_location 14."""
    dims: list[int] = []
    name = ""
    outside = False
    entries: dict[str, str] = {}
    for each in reader.fields(tensor):
        if each.number == 1:
            dims += [each.value] if each.end is None else varints(reader.data(each, 1024))
        elif each.number == 8:
            name = reader.text(each)
        elif each.number == 13:
            entry = {part.number: reader.text(part) for part in reader.fields(each) if part.end is not None}
            entries[entry.get(1, "")] = entry.get(2, "")
        elif each.number == 14:
            outside = each.value == _EXTERNAL
    if len(dims) > _MOST_DIMS:
        raise ValueError("a tensor of too many dimensions")
    found.parameters += math.prod(dims)
    if outside:
        length = entries.get("length")
        offset = _whole(entries.get("offset", "0"))
        found.externals.append(
            External(name, entries.get("location", ""), offset, None if length is None else _whole(length))
        )


def _zipmap_labels(reader: Reader, node: Field, output: str) -> list[int] | list[str] | None:
    """NodeProto: output 2, op_type 4, attribute 5; AttributeProto: name 1, ints 8, strings 9."""
    outputs, kind, attributes = [], "", []
    for each in reader.fields(node):
        if each.number == 2:
            outputs.append(reader.text(each))
        elif each.number == 4:
            kind = reader.text(each)
        elif each.number == 5:
            attributes.append(each)
    if kind != "ZipMap" or output not in outputs:
        return None
    for attribute in attributes:
        name, numbers, texts = "", [], []
        for each in reader.fields(attribute):
            if each.number == 1:
                name = reader.text(each)
            elif each.number == 8:
                found = [each.value] if each.end is None else varints(reader.data(each, _LONGEST_LABELS))
                numbers += [value - (1 << 64) if value >> 63 else value for value in found]
            elif each.number == 9:
                texts.append(reader.text(each))
        if name == "classlabels_int64s" and numbers:
            return numbers
        if name == "classlabels_strings" and texts:
            return texts
    return None


def _opset(reader: Reader, entry: Field) -> tuple[str, int]:
    """OperatorSetIdProto: domain 1, version 2; "ai.onnx" is another name of ONNX's own."""
    domain, version = "", 0
    for each in reader.fields(entry):
        if each.number == 1:
            domain = reader.text(each)
        elif each.number == 2:
            version = each.value
    return ("" if domain == "ai.onnx" else domain), version


def _whole(text: str) -> int:
    """A number of bytes; ValueError for anything else."""
    number = int(text)
    if number < 0:
        raise ValueError("a negative number of bytes")
    return number
