"""Everything on the port that is not the fast path, as one ASGI app: metadata as JSON, health, uploads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from time import perf_counter
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tensorwire._budget import Budget
from tensorwire.servers.fronts import access
from tensorwire.servers.fronts.backlog import Backlog
from tensorwire.servers.fronts.health import Status, health_routes
from tensorwire.servers.fronts.limits import Limits
from tensorwire.servers.fronts.models import about_json, model_routes
from tensorwire.servers.fronts.render import JsonResponse
from tensorwire.servers.fronts.stats import stats_routes
from tensorwire.servers.fronts.upload import Upload
from tensorwire.servers.fronts.wire import PAGES, is_wire
from tensorwire.servers.model import RequestError
from tensorwire.servers.routing.target import Target
from tensorwire.servers.service import Service
from tensorwire.servers.siblings import Siblings

__all__ = ["make_pages"]

_ALWAYS = PAGES | {b"/v1/stats"}


def make_pages(
    service: Service,
    status: Status,
    limits: Limits,
    budget: Budget,
    backlog: Backlog,
    routes: Sequence[BaseRoute] = (),
    siblings: Siblings | None = None,
) -> ASGIApp:
    """The app; ``budget`` is what bodies take their memory from, ``backlog`` what counts the answers, ``routes`` are
    those of further protocols, ``siblings`` the workers of a server that has several.
    """
    app = Starlette(
        routes=[
            *_routes(service),
            *health_routes(service, status),
            *routes,
            *model_routes(service, status, siblings),
            *stats_routes(service, status, limits, budget, siblings),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _server_error},
    )
    upload = Upload(service, limits, budget, backlog)

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        log = _Logged(scope, receive, send) if access.enabled() else None
        if log is not None:
            receive, send = log.receive, log.send
        try:
            if _is_upload(scope):
                await upload(scope, receive, send)
            elif refusal := _refusal(scope, backlog):
                await refusal(scope, receive, send)
            else:
                await app(scope, receive, send)
        except asyncio.CancelledError:
            # The server has given up on this request and its connection; uvicorn would log an error.
            pass
        finally:
            if log is not None:
                log.close()

    return choose


def _routes(service: Service) -> list[Route]:
    async def root(request: Request) -> Response:
        if request.method == "POST":
            raise HTTPException(415, "the body must be a GraphPipe flatbuffer Request, not JSON")
        try:
            about = about_json(service, Target(signature=request.query_params.get("signature", "")))
        except RequestError as error:
            raise HTTPException(error.code, error.message) from None
        # Only models that have one: most are as they were loaded.
        states = {model.name: model.status for model in service.models if model.status}
        return JsonResponse({**about, "status": states} if states else about)

    return [Route("/", root, methods=["GET", "POST"])]


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body: dict[str, Any] = {"error": error.detail}
    if error.status_code == 404 and error.detail == HTTPStatus.NOT_FOUND.phrase:
        routes = [route for route in request.app.routes if isinstance(route, Route) and route.include_in_schema]
        pages = [route.path for route in routes if "{" not in route.path]
        body = {
            "error": f"nothing at {request.url.path}",
            "pages": pages,
            "post": "a GraphPipe flatbuffer Request, to /",
        }
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        if request.method == "OPTIONS":
            return Response(headers={"Allow": f"{allowed}, OPTIONS"})
        text = f"{request.method} is not for {request.url.path}"
        body = {"error": text, "allowed": sorted(allowed.split(", "))}
    return JsonResponse(body, error.status_code, headers=error.headers)


async def _server_error(request: Request, error: Exception) -> Response:
    return JsonResponse({"error": "internal error"}, 500)


def _refusal(scope: Scope, backlog: Backlog) -> Response | None:
    """The answer to who only reads, while too much is unread; watching and administration go on."""
    if scope["method"] not in ("GET", "HEAD") or scope["raw_path"] in _ALWAYS:
        return None
    try:
        backlog.admit()
    except RequestError as error:
        return JsonResponse({"error": error.message}, error.code, headers={"Retry-After": "1"})
    return None


def _is_upload(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    kind = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind = value
    return is_wire(b"POST", scope["raw_path"], kind)


class _Logged:
    """Counts what goes in and out of one request for the access log."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._started = perf_counter()
        self._status = access.ABANDONED
        self._received = self._sent = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        else:
            self._sent += len(message.get("body", b""))
        await self._send(message)

    def close(self) -> None:
        scope = self._scope
        client = scope.get("client")
        path: bytes = scope["raw_path"]
        if scope["query_string"]:
            path += b"?" + scope["query_string"]
        access.record(
            f"{client[0]}:{client[1]}" if client else "unix",
            scope["method"].encode("latin-1"),
            path,
            scope.get("tensorwire.model", ""),
            self._status,
            self._received,
            self._sent,
            self._started,
        )
