"""The pages about models: which there are, in which state their versions are, what they take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tensorwire.servers.fronts.health import Status, readiness
from tensorwire.servers.fronts.render import JsonResponse, metadata_json
from tensorwire.servers.fronts.target import parse_version, read_target
from tensorwire.servers.fronts.together import listings
from tensorwire.servers.model import RequestError, quoted
from tensorwire.servers.routing.mirror import Mirror
from tensorwire.servers.routing.served import listed
from tensorwire.servers.routing.target import Target
from tensorwire.servers.service import Service
from tensorwire.servers.siblings import Siblings
from tensorwire.servers.status import PERCENTILES, ModelStatus, VersionStatus, why_unavailable

__all__ = ["about_json", "model_json", "model_routes"]

_PLACES = ("", "/versions/{version}", "/labels/{label}")
_MOST_LISTED = 20  # versions in one line


def model_routes(service: Service, server: Status, siblings: Siblings | None = None) -> list[Route]:
    """GET /v1/models, and of each model its status, /metadata and /ready; versions by number or label."""

    def mine() -> dict[str, Any]:
        listed = [model_json(status, status.name == service.default) for status in service.status()]
        return {"models": listed, "memory": _memory_json(service), "problem": service.problem}

    if siblings is not None:
        siblings.answers["models"] = mine

    async def models(request: Request) -> Response:
        return JsonResponse(mine() if siblings is None else listings(await siblings.ask("models")))

    def status(target: Target) -> Response:
        return JsonResponse(_status_json(service, target))

    def metadata(target: Target) -> Response:
        return JsonResponse(about_json(service, target))

    def ready(target: Target) -> Response:
        found, number = _find(service, target)
        reason = why_unavailable(found, number) if server.ready else "shutting down"
        return readiness([reason]) if reason else PlainTextResponse("ok\n")

    async def not_a_tensor(request: Request) -> Response:
        try:
            read_target(request.scope["raw_path"])
        except RequestError as error:
            raise HTTPException(error.code, error.message) from None
        raise HTTPException(
            415, "the body must be a GraphPipe flatbuffer Request, with the Content-Type application/octet-stream"
        )

    routes = [Route("/v1/models", models), Route("/v1/models/{rest:path}", not_a_tensor, methods=["POST"])]
    for place in _PLACES:
        routes.append(Route(f"/v1/models/{{name}}{place}", _page(status)))
        routes.append(Route(f"/v1/models/{{name}}{place}/metadata", _page(metadata)))
        routes.append(Route(f"/v1/models/{{name}}{place}/ready", _page(ready)))
    return routes


def _page(answer: Callable[[Target], Response]) -> Callable[[Request], Any]:
    async def page(request: Request) -> Response:
        found = request.path_params
        signature = request.query_params.get("signature", "")
        try:
            version = parse_version(found["version"]) if "version" in found else None
            return answer(Target(found["name"], version, found.get("label", ""), signature))
        except RequestError as error:
            raise HTTPException(error.code, error.message) from None

    return page


def about_json(service: Service, target: Target) -> dict[str, Any]:
    """What a model is and takes: the tensors of the signature that is meant, and all signatures.

    Raises RequestError.
    """
    metadata = service.metadata(target)
    named = metadata.name, metadata.version
    model = next(model for model in service.models if (model.name, model.version) == named)
    return metadata_json(metadata, model.signatures)


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


def _find(service: Service, target: Target) -> tuple[ModelStatus, int | None]:
    """A model and the number of the version that is meant, None for all. Raises RequestError 404 with what there is."""
    status = service.status(target.model)[0]
    number = target.version
    named = ""
    if target.label:
        number = status.labels.get(target.label)
        named = f" (label {quoted(target.label)})"
        if number is None:
            here = f"it has {listed(status.labels)}" if status.labels else "it has no labels"
            raise RequestError(
                404, f"model {status.name!r} has no version with the label {quoted(target.label)}: {here}"
            )
    known = sorted(version.number for version in status.versions)
    if number is not None and number not in known:
        here = ", ".join(map(str, known[-_MOST_LISTED:])) or f"none: {why_unavailable(status)}"
        raise RequestError(404, f"model {status.name!r} has no version {number}{named}: it has {here}")
    return status, number


def _status_json(service: Service, target: Target) -> dict[str, Any]:
    """As TensorFlow Serving answers: https://www.tensorflow.org/tfx/serving/api_rest#model_status_api

    ``error`` beside it says why a model without a version that takes requests has none.
    """
    status, number = _find(service, target)
    versions = [version for version in status.versions if number in (None, version.number)]
    answer: dict[str, Any] = {"model_version_status": [_version_json(version) for version in versions]}
    if number is None and (error := why_unavailable(status)):
        answer["error"] = error
    return answer


def _version_json(version: VersionStatus) -> dict[str, Any]:
    failed = version.error and not version.available
    status = {"error_code": "UNKNOWN" if failed else "OK", "error_message": version.error}
    return {"version": str(version.number), "state": version.state, "status": status}
