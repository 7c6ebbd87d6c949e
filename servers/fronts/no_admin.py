"""The pages of administration where there is none: what to do instead."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["no_admin_routes"]

_PLACES = (
    ("/v1/models/{name}:load", "POST"),
    ("/v1/models/{name}:unload", "POST"),
    ("/v1/models/{name}:reload", "POST"),
    ("/v1/models/{name}/labels", "PUT"),
    ("/v1/models/{name}/traffic", "PUT"),
    ("/v1/config", "GET"),
    ("/v1/config", "PUT"),
)


def no_admin_routes(workers: int = 1) -> list[Route]:
    """A 404 that says why for each; ``workers``: how many processes share the addresses."""
    text = "there is no administration here: see --admin-token-file and --admin-listen"
    if workers > 1:
        text = (
            f"there is no administration, which would reach one of {workers} workers: edit the file of --config and "
            "send SIGHUP to the server, which reaches all"
        )

    async def refuse(request: Request) -> Response:
        raise HTTPException(404, text)

    return [Route(path, refuse, methods=[method], include_in_schema=False) for path, method in _PLACES]
