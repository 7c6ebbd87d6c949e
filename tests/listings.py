"""Models and versions as GET /v1/models has them."""

from __future__ import annotations

from typing import Any

__all__ = ["model", "version"]


def version(number: int, **fields: Any) -> dict[str, Any]:
    usual = {"state": "AVAILABLE", "error": "", "in_flight": 0, "requests": 0, "failures": 0, "p50_ms": None}
    return {"version": str(number), **usual, "p99_ms": None, "memory": None, **fields}


def model(name: str = "m", *versions: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": name, "labels": {}, "problem": "", "traffic": {}, "shadow": None, "versions": versions, **fields}
