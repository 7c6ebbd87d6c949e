"""What a server has done and what it holds: GET /v1/stats. The names of the numbers are documented, and stay."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tensorwire import copy_stats
from tensorwire._budget import Budget
from tensorwire._memory import pool_stats
from tensorwire.servers.fronts.health import Status
from tensorwire.servers.fronts.limits import Limits
from tensorwire.servers.fronts.render import JsonResponse
from tensorwire.servers.fronts.together import totals
from tensorwire.servers.service import SERVER, Service
from tensorwire.servers.siblings import Siblings

__all__ = ["stats_json", "stats_routes"]


def stats_routes(
    service: Service, status: Status, limits: Limits, budget: Budget, siblings: Siblings | None = None
) -> list[Route]:
    mine = partial(stats_json, service, status, limits, budget)
    if siblings is not None:
        siblings.answers["stats"] = mine

    async def stats(request: Request) -> Response:
        if siblings is None:
            return JsonResponse({**mine(), "workers": None})
        found = await siblings.ask("stats")
        return JsonResponse({"server": SERVER, "pid": siblings.parent, **totals(found, siblings.count)})

    return [Route("/v1/stats", stats)]


def stats_json(service: Service, status: Status, limits: Limits, budget: Budget) -> dict[str, Any]:
    """Of this process. Counts are since it started, bytes and requests in flight are those of now; docs/models.md has
    each.
    """
    pool = pool_stats()
    return {
        "server": SERVER,
        "pid": os.getpid(),
        "requests": {
            "received": service.requests,
            "failed": service.failures,
            "expired": service.expired,
            "cancelled": service.cancelled,
            "in_flight": service.in_flight,
            "overdue": service.overdue,
        },
        "bodies": {
            "used": budget.used,
            "limit": budget.limit,
            "waiting": budget.waiting,
            "max_waiting": budget.max_waiting,
        },
        "connections": {
            "open": status.open_connections,
            "handshakes": status.handshakes,
            "limit": limits.max_connections,
        },
        "pool": {
            "live_chunks": pool["live_chunks"],
            "live_bytes": pool["live_bytes"],
            "pooled_blocks": pool["pooled_blocks"],
            "pooled_bytes": pool["pooled_bytes"],
            "reused": pool["reused"],
            "mapped": pool["mapped"],
            "locked_bytes": pool["locked_bytes"],
        },
        "copied": dict(copy_stats()),
    }
