"""Pages for those who watch over servers: is it alive, does it want requests, and if not, why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tensorwire.servers.service import Service
from tensorwire.servers.status import ModelStatus, why_unavailable

__all__ = ["Status", "health_routes", "readiness"]


class Status(Protocol):
    """What the pages ask of the server around them."""

    @property
    def ready(self) -> bool: ...
    @property
    def open_connections(self) -> int: ...
    @property
    def handshakes(self) -> int: ...


def health_routes(service: Service, status: Status) -> list[Route]:
    async def alive(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(request: Request) -> Response:
        if status.ready and service.ready:
            return PlainTextResponse("ok\n")
        if not status.ready:
            return readiness(["shutting down"])
        return readiness([f"{model.name}: {why}" for model in service.status() for why in _missing(model)])

    async def client_count(request: Request) -> Response:
        return PlainTextResponse(f"{status.open_connections}\n")

    return [
        Route("/healthz", alive),
        Route("/readyz", ready),
        Route("/control/is_alive", alive),
        Route("/control/is_ready", ready),
        Route("/control/client_count", client_count),
    ]


def readiness(reasons: list[str]) -> Response:
    """503 with a line for each reason."""
    lines = [f"not ready: {reason}\n" for reason in reasons] or ["not ready\n"]
    return PlainTextResponse("".join(lines), 503)


def _missing(model: ModelStatus) -> Iterator[str]:
    """Why a model keeps the server from being ready: no version takes requests, or one of those that did does not."""
    if why := why_unavailable(model):
        yield why
        return
    for version in model.versions:
        if version.available and not version.working:
            yield why_unavailable(model, version.number)
