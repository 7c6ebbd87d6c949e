"""Tensor data that stands in files beside a model.

Locations are relative to the model's folder: https://onnx.ai/onnx/repo-docs/ExternalData.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from tensorwire.servers.engines.ort.facts import External
from tensorwire.servers.model import ModelError

__all__ = ["check_external"]


def check_external(path: Path, externals: Sequence[External]) -> None:
    """Raises ModelError, before the framework opens anything: a location outside the model's folder, a file that
    is missing or too short. Symbolic links are left to ONNX Runtime to judge.
    """
    sizes: dict[str, int] = {}
    for external in externals:
        location = external.location
        what = f"{path}: data of {external.tensor!r} is in {location!r}"
        if location not in sizes:
            if not location or PurePosixPath(location).is_absolute() or ".." in PurePosixPath(location).parts:
                raise ModelError(f"{what}, which is not inside the model's folder: refused")
            file = path.parent / location
            if not file.is_file():
                raise ModelError(f"{what}, and there is no such file: keep it beside the model")
            sizes[location] = file.stat().st_size
        end = external.offset + (external.length or 0)
        if end > sizes[location]:
            raise ModelError(f"{what} up to byte {end:,}, and the file ends at {sizes[location]:,}: it is cut short")
