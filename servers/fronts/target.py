"""Which model a URL names: /v1/models/NAME[/versions/N|/labels/L][:predict], as in TensorFlow Serving's REST."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote

from tensorwire.servers.routing.target import Target

__all__ = ["MODELS", "find_target"]

MODELS = b"/v1/models/"

_PATH = re.compile(rb"/v1/models/([^/:?]+)(?:/versions/([0-9]{1,19})|/labels/([^/:?]+))?(?::predict)?/?")


@lru_cache(maxsize=1024)
def find_target(path: bytes) -> Target | None:
    """What the path of a request names, its query left aside; None when it names no model. Never raises."""
    match = _PATH.fullmatch(path.partition(b"?")[0])
    if match is None:
        return None
    name, version, label = match.groups()
    return Target(_text(name), None if version is None else int(version), _text(label or b""))


def _text(part: bytes) -> str:
    return unquote(part.decode("latin-1"), errors="replace")
