"""Which model a URL names: /v1/models/NAME[/versions/N|/labels/L][:predict], as in TensorFlow Serving's REST, and which
signature: ?signature=NAME behind it, or behind any other path.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote, unquote_plus

from tensorwire.servers.model import RequestError, quoted
from tensorwire.servers.repository.config import LARGEST_VERSION
from tensorwire.servers.routing.target import Target

__all__ = ["MODELS", "find_target", "is_admin", "parse_version", "read_target"]

MODELS = b"/v1/models/"

_PATH = re.compile(rb"/v1/models/([^/:?]+)(?:/versions/(0*[0-9]{1,19})|/labels/([^/:?]+))?(?::predict)?/?")
_ALMOST = re.compile(rb"/v1/models/[^/:?]+(?:/versions/([^/:]*)|/labels/[^/:]+)?(?::([^/:]*))?/?")
_SIGNATURE = re.compile(rb"(?:^|&)signature=([^&]+)")
_VERSION = re.compile("0*[0-9]{1,19}", re.ASCII)
_ADMIN = (b":load", b":unload", b":reload")


@lru_cache(maxsize=1024)
def find_target(path: bytes) -> Target | None:
    """What the path of a request, with its query, names; None when it names nothing. Never raises."""
    path, _, query = path.partition(b"?")
    found = _SIGNATURE.search(query) if query else None
    signature = unquote_plus(found[1].decode("latin-1"), errors="replace") if found is not None else ""
    if not path.startswith(MODELS):
        return Target(signature=signature) if signature else None
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    name, version, label = match.groups()
    return Target(_text(name), None if version is None else int(version), _text(label or b""), signature)


def read_target(path: bytes) -> Target | None:
    """As ``find_target``; raises RequestError for a path that is one of models and names none."""
    target = find_target(path)
    if target is None and path.startswith(MODELS):
        raise _misnamed(path.partition(b"?")[0])
    return target


def is_admin(path: bytes) -> bool:
    """The path is one of administration, below that of a model."""
    return path.partition(b"?")[0].endswith(_ADMIN)


def parse_version(text: str) -> int:
    """The number of a version in a URL. Raises RequestError 400."""
    if _VERSION.fullmatch(text) is None or int(text) > LARGEST_VERSION:
        raise RequestError(400, f"a version is a number from 0 to {LARGEST_VERSION}, not {quoted(text)}")
    return int(text)


def _misnamed(path: bytes) -> RequestError:
    match = _ALMOST.fullmatch(path)
    version, verb = match.groups() if match is not None else (None, None)
    try:
        if version is not None:
            parse_version(_text(version))
    except RequestError as error:
        return error
    where = "/v1/models/NAME[/versions/N|/labels/L][:predict]"
    if is_admin(path):
        return RequestError(404, "there is no administration here: see --admin-token-file and --admin-listen")
    if verb is not None and verb != b"predict":
        return RequestError(404, f"{quoted(':' + _text(verb))} is not served: a GraphPipe Request goes to {where}")
    return RequestError(404, f"no model at {quoted(_text(path))}: a GraphPipe Request goes to / or {where}")


def _text(part: bytes) -> str:
    return unquote(part.decode("latin-1"), errors="replace")
