"""Values as JSON: the response class of all pages, and what several of them say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from starlette.responses import Response

from tensorwire import Metadata, TensorSpec
from tensorwire.servers.model import Signature

__all__ = ["JsonResponse", "metadata_json"]


class JsonResponse(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)


def metadata_json(metadata: Metadata, signatures: Mapping[str, Signature] | None = None) -> dict[str, Any]:
    """A model's metadata as JSON values; ``type`` is numpy's name of the dtype, 'string', or null for any.

    ``signatures``: all that the model has, by name, beside the one whose tensors the metadata has.
    """
    return {
        "name": metadata.name,
        "version": metadata.version,
        "server": metadata.server,
        "description": metadata.description,
        "inputs": [_spec_json(spec) for spec in metadata.inputs],
        "outputs": [_spec_json(spec) for spec in metadata.outputs],
        "signatures": {name: _signature_json(signature) for name, signature in (signatures or {}).items()},
    }


def _signature_json(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": [_spec_json(spec) for spec in signature.inputs],
        "outputs": [_spec_json(spec) for spec in signature.outputs],
    }


def _spec_json(spec: TensorSpec) -> dict[str, Any]:
    dtype = spec.dtype
    name = None if dtype is None else "string" if dtype == np.dtype(object) else dtype.name
    return {"name": spec.name, "description": spec.description, "shape": list(spec.shape), "type": name}
