"""What several workers say of themselves, as one answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["listings", "totals"]

_COUNTS = ("in_flight", "requests", "failures")
_COPIES = ("same", "different", "failed", "skipped")


def totals(found: Mapping[int, Mapping[str, Any]], count: int) -> dict[str, Any]:
    """The sums of what the workers' stats count, and in ``workers`` what each has told, by its number from 1 on."""
    each = list(found.values())
    summed = {
        group: {name: sum(one[group][name] for one in each) for name in values}
        for group, values in each[0].items()
        if isinstance(values, dict)
    }
    told = [{"worker": number + 1, **{key: one[key] for key in ("pid", *summed)}} for number, one in found.items()]
    return {**summed, "workers": {"configured": count, "told": len(each), "each": told}}


def listings(found: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """The workers' models as one list: counts and bytes are sums, a state that is not everybody's is the one that is
    furthest from serving, with the worker that is in it.
    """
    models: dict[str, dict[int, Mapping[str, Any]]] = {}
    for number, one in found.items():
        for model in one["models"]:
            models.setdefault(model["name"], {})[number] = model
    memory = [one["memory"] for one in found.values()]
    return {
        "models": [_model(each) for each in models.values()],
        "problem": next((one["problem"] for one in found.values() if one["problem"]), ""),
        "memory": {**memory[0], **{name: _sum([one[name] for one in memory]) for name in ("used", "limit")}},
    }


def _model(each: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    versions: dict[str, dict[int, Mapping[str, Any]]] = {}
    for number, model in each.items():
        for version in model["versions"]:
            versions.setdefault(version["version"], {})[number] = version
    first = next(iter(each.values()))
    problems = [_of(number, model["problem"]) for number, model in each.items() if model["problem"]]
    same = len({model["problem"] for model in each.values()}) == 1
    return {
        **first,
        "ready": all(model["ready"] for model in each.values()),
        "problem": first["problem"] if same else problems[0],
        "shadow": first["shadow"] and _shadow([model["shadow"] for model in each.values() if model["shadow"]]),
        "versions": [_version(versions[name]) for name in sorted(versions, key=int, reverse=True)],
    }


_ORDER = ("END", "START", "UNLOADING", "LOADING", "AVAILABLE")


def _distance(version: Mapping[str, Any]) -> tuple[bool, int, bool]:
    """How near a version is to serving; one that has ended without an error is history."""
    return version["state"] == "END" and not version["error"], _ORDER.index(version["state"]), not version["error"]


def _version(each: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    number, worst = min(each.items(), key=lambda item: _distance(item[1]))
    alike = len({(one["state"], one["error"]) for one in each.values()}) == 1
    error = worst["error"] or ("" if worst["state"] == "AVAILABLE" else f"is {worst['state']}")
    return {
        **worst,
        "error": worst["error"] if alike else error and _of(number, error),
        "engine": next((one["engine"] for one in each.values() if one["engine"]), ""),
        **{name: sum(one[name] for one in each.values()) for name in _COUNTS},
        **_times(list(each.values())),
        "memory": _sum([one["memory"] for one in each.values()]),
    }


def _shadow(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        **each[0],
        **{name: sum(one[name] for one in each) for name in _COPIES},
        "latest": next((one["latest"] for one in each if one["latest"]), ""),
        **_times(each),
    }


def _times(each: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The largest of the workers', since percentiles of parts do not say those of the whole, but that these are no
    larger.
    """
    return {
        name: max([one[name] for one in each if one[name] is not None], default=None) for name in ("p50_ms", "p99_ms")
    }


def _of(number: int, text: str) -> str:
    return f"worker {number + 1}: {text}"


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
