"""ONNX Runtime's errors in words that say what to do."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["load_failure", "plain"]

_OPSET = re.compile(r"Opset (\d+) is under development.*support for domain (\S+) is till opset (\d+)", re.S)
_IR = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")
_UNKNOWN_OPERATOR = re.compile(r"([\w.]*):(\w+)\(-?\d+\) is not a registered function/op")
_NO_OPERATOR = re.compile(r"No Op registered for (\w+) with domain_version of (\d+)")

_CODE = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_WHERE = re.compile(
    r"/\S+\.(?:cc|h|cpp):\d+ [^()]*\([^()]*\)(?: const)?(?: \[with [^\]]*\])? "  # a file of its source, and a function
    r"|\b\w+\.(?:cc|h):\d+ \w+ "
    r"|(?:Exception during \w+: )?/\S+:\d+ .*?\) (?=[A-Z])"
)
_NODE = re.compile(r"^Non-zero status code returned while running (\S+) node\. Name:'(.*?)' Status Message: ?")
_ADVICE = " Please fix either the inputs/outputs or the model."


def plain(text: str) -> str:
    """An error on one line, without its code, its advice, and where in ONNX Runtime's source it arose."""
    text = _CODE.sub("", " ".join(text.split()))
    text = re.sub(r"^Load model from .*? failed: ?", "", text)
    text = _WHERE.sub("", text).removesuffix(_ADVICE)
    node = _NODE.match(text)
    if node is None:
        return text
    kind, name = node.groups()
    where = f"operator {kind} {name!r}" if name else f"operator {kind}"
    return f"{where}: {text[node.end() :]}" if text[node.end() :].strip() else f"{where} failed"


def load_failure(path: Path, text: str, version: str) -> str:
    """Why ONNX Runtime of that version did not load a file, and what to do."""
    if path.is_file() and not path.stat().st_size:
        return f"{path}: the file is empty"
    if found := _OPSET.search(text):
        asked, domain, known = found.groups()
        return f"{path}: needs opset {asked} of {domain}, ONNX Runtime {version} knows {known} and older"
    if found := _IR.search(text):
        asked, known = found.groups()
        return f"{path}: has IR version {asked}, ONNX Runtime {version} knows {known} and older: install a newer one"
    if found := _UNKNOWN_OPERATOR.search(text):
        domain, operator = found.groups()
        return (
            f"{path}: operator {operator} of {domain or 'ai.onnx'} is not in ONNX Runtime {version}: name the library "
            "that has it, --custom-op-path FILE.so"
        )
    if found := _NO_OPERATOR.search(text):
        return f"{path}: there is no operator {found[1]} in opset {found[2]} (No Op registered for {found[1]})"
    if "INVALID_PROTOBUF" in text:
        return f"{path}: not an ONNX model, or cut short"
    if "No graph was found" in text:
        return f"{path}: not an ONNX model, or cut short: no graph in it"
    return f"{path}: ONNX Runtime {version} cannot load it: {plain(text)}"
