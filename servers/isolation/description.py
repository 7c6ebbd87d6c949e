"""A model's description on its way out of its process: JSON, and the specs as the wire's Metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tensorwire._decode import decode
from tensorwire._encode import encode
from tensorwire._messages import Metadata
from tensorwire.servers.model import Model, Signature

__all__ = ["Description", "describe", "read_description"]

_TEXTS = ("name", "version", "description", "engine", "default_signature", "device")


@dataclass(frozen=True, slots=True)
class Description:
    """What a Model says of itself."""

    texts: dict[str, str]
    facts: dict[str, str]
    signatures: dict[str, Signature]
    concurrency: int
    exact: bool


def describe(model: Model) -> list[bytes]:
    """The description as parts of a message."""
    signatures = list(model.signatures.values())
    about = {
        **{name: str(getattr(model, name)) for name in _TEXTS},
        "facts": {str(name): str(value) for name, value in model.facts.items()},
        "concurrency": model.concurrency,
        "exact": model.exact,
        "open": [signature.open for signature in signatures],
        "aliases": [dict(signature.aliases) for signature in signatures],
    }
    specs = [bytes(encode(Metadata(s.name, inputs=s.inputs, outputs=s.outputs))) for s in signatures]
    return [json.dumps(about).encode(), *specs]


def read_description(parts: list[bytes]) -> Description:
    """The description in a message. Raises ValueError (DecodeError is one), LookupError, TypeError."""
    about = json.loads(parts[0])
    found = [decode(part, Metadata) for part in parts[1:]]
    signatures = {
        one.name: Signature(one.name, tuple(one.inputs), tuple(one.outputs), bool(is_open), _aliases(one, other_names))
        for one, is_open, other_names in zip(found, about["open"], about["aliases"], strict=True)
    }
    texts = {name: str(about[name]) for name in _TEXTS}
    concurrency = int(about["concurrency"])
    if texts["default_signature"] not in signatures or not 0 < concurrency <= 1024:
        raise ValueError(f"no signature {texts['default_signature']!r}, or {concurrency} calls at once")
    return Description(texts, dict(about["facts"]), signatures, concurrency, bool(about["exact"]))


def _aliases(declared: Metadata, other_names: object) -> dict[str, str]:
    names = {spec.name for spec in (*declared.inputs, *declared.outputs)}
    if not isinstance(other_names, dict) or not names.issuperset(other_names.values()):
        raise ValueError(f"other names for tensors that {declared.name!r} has not: {other_names!r:.100}")
    return other_names
