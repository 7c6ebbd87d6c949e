"""What a file of PyTorch's holds, told from its bytes: the suffix says little, since all formats are called .pt.

The zip archives are those of https://docs.pytorch.org/docs/stable/notes/serialization.html
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

__all__ = ["EXPORTED", "PICKLE", "SAFETENSORS", "TORCHSCRIPT", "exported_by", "foreign", "format_of"]

TORCHSCRIPT = "TorchScript"
EXPORTED = "torch.export"
PICKLE = "torch.save"
SAFETENSORS = "safetensors"

_ZIP = b"PK\x03\x04"
_OLD_PICKLE = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # torch.serialization.MAGIC_NUMBER, as a pickle
_LARGEST_HEADER = 100_000_000  # of safetensors: https://github.com/huggingface/safetensors#format
_FOREIGN = {
    b"\x89HDF": "an HDF5 file, perhaps Keras's",
    b"PK": "a zip archive that PyTorch did not write, or one that was cut short",
    b"\x80": "a pickle that PyTorch did not write",
    b"\x1f\x8b": "a gzip file",
    b"{": "text",
    b"<": "text",
}


def format_of(path: Path) -> str | None:
    """One of the formats above, None for a file that is none of them. Reads the head and a zip's directory."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if head.startswith(_ZIP):
            return _of_zip(_records(path))
        if head.startswith(_OLD_PICKLE):
            return PICKLE
        header = int.from_bytes(head[:8], "little")
        if head[8:9] == b"{" and 2 <= header <= min(_LARGEST_HEADER, path.stat().st_size - 8):
            return SAFETENSORS
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        pass
    return None


def foreign(path: Path) -> str:
    """What a file that is none of the formats looks like, for a message."""
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        return "the file is empty"
    if head.startswith(_ZIP):
        try:
            names = _records(path)
        except (zipfile.BadZipFile, ValueError, NotImplementedError):
            return "the file is cut short or damaged: its zip directory is missing"
        if {"config.json", "model.weights.h5"} <= names:
            return "the file is a Keras model"
    for start, what in _FOREIGN.items():
        if head.startswith(start):
            return f"the file is {what}"
    return "no format of PyTorch's"


def exported_by(path: Path) -> str:
    """The version of PyTorch that an exported program says it was made with, '' when it says none."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.partition("/")[2] == "models/model.json":
                found = re.search(rb'"torch_version": *"([\w.+\-]+)"', archive.read(name))
                return found[1].decode() if found else ""
    return ""


def _records(path: Path) -> set[str]:
    """The names in a zip archive, without the folder that PyTorch puts everything in. Raises zipfile.BadZipFile."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return {name.partition("/")[2] or name for name in names} | {name for name in names if "/" not in name}


def _of_zip(names: set[str]) -> str | None:
    if "archive_format" in names or "serialized_exported_program.json" in names or "models/model.json" in names:
        return EXPORTED
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return TORCHSCRIPT
    return PICKLE if "data.pkl" in names else None
