"""Requests divided among versions, and copied to others, over the wire."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rawhttp import Raw
from version_folders import X, write
from waiting import wait_until

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.repository.config import ModelConfig, RepositoryConfig, VersionPolicy
from tensorwire.servers.routing.rules import NEWEST, MirrorRule, SplitRule

LABELS = {"stable": 1, "canary": 2}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    pytest.importorskip("onnxruntime", reason="these models run on onnxruntime")
    write(tmp_path / "a", 1, 1)
    write(tmp_path / "a", 2, 2)
    write(tmp_path / "a", 3, 1)
    return tmp_path / "a"


def serve(base: Path, **fields: Any) -> Iterator[BackgroundServer]:
    model = ModelConfig(
        name="a", path=str(base), settle=0, policy=VersionPolicy(latest=0), **{"labels": LABELS, **fields}
    )
    with BackgroundServer(config=RepositoryConfig(models=(model,)), poll=0.05, admin_token="word") as server:
        wait_until(lambda: len([v for v in server.app.service.status("a")[0].versions if v.available]) == 3)
        yield server


@pytest.fixture
def divided(base: Path) -> Iterator[BackgroundServer]:
    yield from serve(base, traffic=SplitRule({"stable": 3, "canary": 1}))


@pytest.fixture
def shadowed(base: Path) -> Iterator[BackgroundServer]:
    yield from serve(base, traffic=SplitRule({"stable": 1}), shadow=MirrorRule("canary"))


def answered(client: tw.Client, **fields: Any) -> float:
    return float(client.send(tw.Request({"x": X}, **fields)).outputs["y"][1])


def retire(server: BackgroundServer, number: int) -> None:
    async def main() -> None:
        await server.app.service.retire("a", number)

    asyncio.run_coroutine_threadsafe(main(), server.loop).result(60)


def model_page(url: str) -> dict[str, Any]:
    with Raw(url) as raw:
        found: dict[str, Any] = json.loads(raw.get("/v1/models").body)["models"][0]
    return found


def test_weights_divide_requests_that_name_no_version(divided: BackgroundServer) -> None:
    with tw.Client(divided.url) as client:
        by_id = {name: answered(client, id=name) for name in (f"user {number}" for number in range(200))}
        assert {name: answered(client, id=name) for name in by_id} == by_id, "an id stays with its version"
        counts = Counter(by_id.values())
        assert set(counts) == {1.0, 2.0} and 20 <= counts[2.0] <= 80
        by_chance = Counter(answered(client) for _ in range(200))
        assert set(by_chance) == {1.0, 2.0} and 20 <= by_chance[2.0] <= 80
        assert {answered(client, id=name, version=3) for name in by_id} == {1.0}
        assert {answered(client, id=name, label="canary") for name in list(by_id)[:20]} == {2.0}
    page = model_page(divided.url)
    assert page["traffic"] == {"stable": 3, "canary": 1}
    requests = {version["version"]: version["requests"] for version in page["versions"]}
    assert sum(requests.values()) == 820 and requests["3"] == 200
    assert all(version["p99_ms"] >= version["p50_ms"] > 0 for version in page["versions"])


def test_the_share_of_a_version_that_is_away_goes_to_the_others(divided: BackgroundServer, base: Path) -> None:
    with tw.Client(divided.url) as client:
        before = {name: answered(client, id=name) for name in map(str, range(50))}
        retire(divided, 2)
        assert {answered(client, id=name) for name in before} == {1.0}


def test_shadows_are_compared_and_never_returned(shadowed: BackgroundServer) -> None:
    """1 serves; 2, the canary, answers twice as much: all but zeros are different."""

    def counted() -> tuple[int, ...]:
        shadow = model_page(shadowed.url)["shadow"]
        return shadow["same"], shadow["different"], shadow["failed"], shadow["skipped"]

    with tw.Client(shadowed.url) as client:
        for number in range(1, 11):
            assert answered(client) == 1
            wait_until(lambda number=number: sum(counted()) == number)  # A copy too many at once is skipped.
        zeros = np.zeros(3, np.float32)
        for number in range(11, 16):
            assert client.infer({"x": zeros})["y"].tolist() == [0, 0, 0]
            wait_until(lambda number=number: sum(counted()) == number)
        # Asked for by name, it answers, and is no copy of itself.
        assert answered(client, label="canary") == 2

    assert counted()[:2] == (5, 10), counted()
    shadow = model_page(shadowed.url)["shadow"]
    assert shadow["latest"] == "output 'y': 2 of 3 values differ, by up to 2" and shadow["to"] == "canary"
    assert shadow["p50_ms"] > 0
    versions = {version["version"]: version["requests"] for version in model_page(shadowed.url)["versions"]}
    assert versions == {"1": 15, "2": 1, "3": 0}


def test_a_shadow_that_is_away_or_fails_is_counted(shadowed: BackgroundServer) -> None:
    with tw.Client(shadowed.url) as client:
        retire(shadowed, 2)
        assert answered(client) == 1
        wait_until(lambda: model_page(shadowed.url)["shadow"]["skipped"] == 1)
        with pytest.raises(tw.RemoteError):
            client.infer({"x": X.astype(np.float64)})
        assert model_page(shadowed.url)["shadow"]["skipped"] == 1, "what is not answered is not copied"


def test_traffic_is_changed_while_serving(base: Path) -> None:
    from tensorwire.servers.cli import main

    token = base.parent / "token"
    token.write_text("word")
    for server in serve(base):
        url = server.url
        with tw.Client(url) as client:
            assert answered(client) == 1, "the newest, 3"

            def change(*args: str, url: str = url) -> int:
                return main(["models", "traffic", url, "a", *args, "--token-file", str(token)])

            assert change("canary=1") == 0
            assert {answered(client) for _ in range(20)} == {2.0}
            assert model_page(server.url)["traffic"] == {"canary": 1}
            assert change("--shadow", "3", "--share", "0.5") == 0
            assert model_page(server.url)["shadow"]["share"] == 0.5
            assert model_page(server.url)["traffic"] == {"canary": 1}, "what is not named stays"
            assert change("--newest", "--shadow", "") == 0
            page = model_page(server.url)
            assert page["traffic"] == {} and page["shadow"] is None
            assert {answered(client) for _ in range(20)} == {1.0}
            assert change("nobody=1") == 2
            assert change("canary=-1") == 2
            assert change() == 2
        assert server.app.service.repository is not None
        assert server.app.service.repository.config.models[0].traffic == NEWEST


def test_refused_rules_say_why(base: Path) -> None:
    for server in serve(base):
        for body, told in (
            ({"traffic": {"x": 1}}, "traffic: 'x' is no version and none of its labels (stable, canary)"),
            ({"traffic": {"stable": "a"}}, "the weight of 'stable' is a number, not 'a'"),
            ({"traffic": {"stable": 0}}, "all weights are 0"),
            ({"shadow": {"too": 1}}, "shadow: unknown key 'too': there are to, share, tolerance"),
            ({"shadow": {"share": 1}}, "to is missing"),
            ({"shadow": {"to": "canary", "share": 2}}, "share is above 0 and up to 1, not 2"),
            ({"weights": {}}, "unknown key 'weights'"),
        ):
            data = json.dumps(body).encode()
            with Raw(server.url) as raw:
                raw.send(
                    b"PUT /v1/models/a/traffic HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer word\r\n"
                    b"Content-Length: %d\r\n\r\n%b" % (len(data), data)
                )
                answer = raw.answer()
            assert answer.status == 400 and told in json.loads(answer.body)["error"], answer.body
