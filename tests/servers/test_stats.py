"""GET /v1/stats: what a server has done and holds, under names that stay."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
from rawhttp import Raw, head, post
from waiting import Gate, wait_until

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer

X = np.ones(3, np.float32)
BODY = bytes(tw.encode(tw.Request({"x": X})))
NAMES = {
    "requests": ["received", "failed", "expired", "cancelled", "in_flight", "overdue"],
    "bodies": ["used", "limit", "waiting", "max_waiting"],
    "connections": ["open", "handshakes", "limit"],
    "pool": ["live_chunks", "live_bytes", "pooled_blocks", "pooled_bytes", "reused", "mapped", "locked_bytes"],
    "copied": ["received", "sent"],
}


def stats(raw: Raw) -> dict[str, Any]:
    answer = raw.get("/v1/stats")
    assert answer.status == 200
    found = json.loads(answer.body)
    assert isinstance(found, dict)
    return found


def test_the_names_that_are_documented() -> None:
    with BackgroundServer(lambda inputs: inputs) as server, Raw(server.url) as raw:
        found = stats(raw)
        assert (found.pop("server"), found.pop("pid")) == (f"tensorwire/{tw.__version__}", os.getpid())
        assert found.pop("workers") is None
        assert {name: list(group) for name, group in found.items()} == NAMES
        assert all(type(value) is int for group in found.values() for value in group.values())


def test_requests_are_counted() -> None:
    with (
        Gate() as gate,
        BackgroundServer(gate.model, memory_limit=1 << 20, max_waiting=7, max_connections=50) as server,
        Raw(server.url) as raw,
        Raw(server.url) as held,
        Raw(server.url) as gone,
        Raw(server.url) as late,
    ):
        held.send(post(BODY))
        gate.wait_entered()
        gone.send(post(BODY))
        assert late.post(BODY, "/", "X-Deadline-Ms: 1").status == 504
        found = stats(raw)
        assert found["requests"] | {"received": 3, "in_flight": 2} == found["requests"]
        assert (found["requests"]["failed"], found["requests"]["expired"]) == (1, 1)
        assert found["bodies"] == {"used": found["bodies"]["used"], "limit": 1 << 20, "waiting": 0, "max_waiting": 7}
        assert found["bodies"]["used"] >= 2 * len(BODY)
        assert found["connections"] == {"open": 4, "handshakes": 0, "limit": 50}
        gone.reset()
        wait_until(lambda: stats(raw)["connections"]["open"] == 3)
        gate.open()
        assert held.answer().status == 200
        wait_until(lambda: stats(raw)["requests"]["cancelled"] == 1)
        wait_until(lambda: stats(raw)["bodies"]["used"] == 0)
        assert stats(raw)["requests"]["in_flight"] == 0
        raw.send(head("POST", "/v1/stats", "Content-Length: 0"))
        assert raw.answer().status in (404, 405, 415)
