"""Values as JSON: the response class of all pages, and what several of them say."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from starlette.responses import Response

from tensorwire import Metadata, TensorSpec

__all__ = ["JsonResponse", "metadata_json"]


class JsonResponse(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)


def metadata_json(metadata: Metadata) -> dict[str, Any]:
    """A model's metadata as JSON values; ``type`` is numpy's name of the dtype, 'string', or null for any."""
    return {
        "name": metadata.name,
        "version": metadata.version,
        "server": metadata.server,
        "description": metadata.description,
        "inputs": [_spec_json(spec) for spec in metadata.inputs],
        "outputs": [_spec_json(spec) for spec in metadata.outputs],
    }


def _spec_json(spec: TensorSpec) -> dict[str, Any]:
    dtype = spec.dtype
    name = None if dtype is None else "string" if dtype == np.dtype(object) else dtype.name
    return {"name": spec.name, "description": spec.description, "shape": list(spec.shape), "type": name}
