"""Formats of other software that no engine reads, told by their content, so that an error can say what to do."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

__all__ = ["foreign_format"]

_HEAD = 4096
_FUNCTION = "or serve a Python function that calls it (docs/python.md)"
_H2O_MAGIC = b"\x1c\xed"  # water.AutoBuffer's, before the version of H2O
_PMML = re.compile(rb"<PMML[\s>]")


def foreign_format(path: Path) -> str | None:
    """What a file or folder is and what to do with it, None when it is nothing that is known here. Reads little.

    Known are H2O's binary models and MOJOs, Spark ML pipelines, and PMML.
    """
    try:
        if path.is_dir():
            return _spark(path)
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if head.startswith(b"PK\x03\x04"):
            return _archive(path)
    except (OSError, zipfile.BadZipFile):
        return None
    if _PMML.search(head):
        return f"a PMML model, which is not supported; train it again in a library that saves ONNX, {_FUNCTION}"
    version = re.match(rb"[\x00-\x20]?([\d.]{3,20})", head[2:]) if head.startswith(_H2O_MAGIC) else None
    if version:
        number = version[1].decode()
        return (
            f"a binary model of H2O {number}, which only that version reads; open it there, save it as a MOJO, "
            "and convert that to ONNX with onnxmltools.convert_h2o"
        )
    return None


def _spark(folder: Path) -> str | None:
    """The folder of a Spark ML model: its metadata is JSON in parts."""
    parts = sorted((folder / "metadata").glob("part-*")) if (folder / "metadata").is_dir() else []
    if not parts:
        return None
    with parts[0].open("rb") as file:
        head = file.read(_HEAD)
    kind = re.search(rb'"class"\s*:\s*"([\w.]+)"', head)
    version = re.search(rb'"sparkVersion"\s*:\s*"([\w.-]+)"', head)
    if kind is None or version is None:
        return None
    name = kind[1].decode().rpartition(".")[2]
    return (
        f"a {name[:80]} of Spark ML {version[1].decode()[:20]}, which is not supported; load it in Spark and convert "
        f"it to ONNX with onnxmltools.convert_sparkml, {_FUNCTION}"
    )


def _archive(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        if "model.ini" not in archive.namelist():
            return None
    return f"an H2O MOJO, which is not supported; convert it to ONNX with onnxmltools.convert_h2o, {_FUNCTION}"
