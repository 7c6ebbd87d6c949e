"""The pages about models: which there are, in which state their versions are, what they take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tensorwire.servers.fronts.render import JsonResponse, metadata_json
from tensorwire.servers.model import RequestError
from tensorwire.servers.routing.mirror import Mirror
from tensorwire.servers.routing.target import Target
from tensorwire.servers.service import Service
from tensorwire.servers.status import PERCENTILES, ModelStatus, VersionStatus

__all__ = ["model_json", "model_routes"]

_PLACES = ("", "/versions/{version:int}", "/labels/{label}")


def model_routes(service: Service) -> list[Route]:
    """GET /v1/models, and of each model its status and /metadata; versions by number or label."""

    async def models(request: Request) -> Response:
        listed = [model_json(status, status.name == service.default) for status in service.status()]
        return JsonResponse({"models": listed, "memory": _memory_json(service)})

    def status(target: Target) -> dict[str, Any]:
        return _status_json(service, target)

    def metadata(target: Target) -> dict[str, Any]:
        return metadata_json(service.metadata(target))

    async def not_a_tensor(request: Request) -> Response:
        raise HTTPException(
            415, "the body must be a GraphPipe flatbuffer Request, with the Content-Type application/octet-stream"
        )

    routes = [Route("/v1/models", models), Route("/v1/models/{rest:path}", not_a_tensor, methods=["POST"])]
    for place in _PLACES:
        routes.append(Route(f"/v1/models/{{name}}{place}", _page(status)))
        routes.append(Route(f"/v1/models/{{name}}{place}/metadata", _page(metadata)))
    return routes


def _page(answer: Callable[[Target], dict[str, Any]]) -> Callable[[Request], Any]:
    async def page(request: Request) -> Response:
        found = request.path_params
        try:
            return JsonResponse(answer(Target(found["name"], found.get("version"), found.get("label", ""))))
        except RequestError as error:
            raise HTTPException(error.code, error.message) from None

    return page


def model_json(status: ModelStatus, default: bool) -> dict[str, Any]:
    """A model's state as JSON values; ``since`` are seconds since 1970 at which a version entered its states,
    ``memory`` are bytes, ``requests`` and ``failures`` counts since it was loaded.
    """
    return {
        "name": status.name,
        "default": default,
        "ready": status.ready,
        "labels": dict(status.labels),
        "problem": status.problem,
        "traffic": dict(status.traffic),
        "shadow": None if status.mirror is None else _mirror_json(status.mirror),
        "versions": [
            {
                "version": str(version.number),
                "state": version.state,
                "error": version.error,
                "engine": version.engine,
                "in_flight": version.in_flight,
                "requests": version.requests,
                "failures": version.failures,
                **_times_json(version.percentiles),
                "memory": version.memory,
                "since": dict(version.since),
            }
            for version in status.versions
        ],
    }


def _times_json(percentiles: Sequence[float]) -> dict[str, float | None]:
    """Percentiles of seconds in ms, each under its name; null before there are any."""
    if not percentiles:
        return {f"p{percent:g}_ms": None for percent in PERCENTILES}
    found = zip(PERCENTILES, percentiles, strict=True)
    return {f"p{percent:g}_ms": round(seconds * 1e3, 4) for percent, seconds in found}


def _mirror_json(mirror: Mirror) -> dict[str, Any]:
    rule = mirror.rule
    return {
        "to": rule.to,
        "share": rule.share,
        "tolerance": rule.tolerance,
        "same": mirror.same,
        "different": mirror.different,
        "failed": mirror.failed,
        "skipped": mirror.skipped,
        "latest": mirror.latest,
        **_times_json(mirror.tally.percentiles(*PERCENTILES)),
    }


def _memory_json(service: Service) -> dict[str, Any]:
    """Bytes that the models of a repository take, and may take (null: any number)."""
    room = service.repository.room if service.repository is not None else None
    if room is None:
        return {"used": None, "limit": None, "on_demand": False}
    return {"used": room.used, "limit": room.limit or None, "on_demand": room.on_demand}


def _status_json(service: Service, target: Target) -> dict[str, Any]:
    """As TensorFlow Serving answers: https://www.tensorflow.org/tfx/serving/api_rest#model_status_api"""
    status = service.status(target.model)[0]
    number = target.version
    if target.label:
        number = status.labels.get(target.label)
        if number is None:
            raise RequestError(404, f"model {status.name!r} has no version with the label {target.label!r}")
    versions = [version for version in status.versions if number in (None, version.number)]
    if number is not None and not versions:
        raise RequestError(404, f"model {status.name!r} has no version {number}")
    return {"model_version_status": [_version_json(version) for version in versions]}


def _version_json(version: VersionStatus) -> dict[str, Any]:
    failed = version.error and not version.available
    status = {"error_code": "UNKNOWN" if failed else "OK", "error_message": version.error}
    return {"version": str(version.number), "state": version.state, "status": status}
