"""What several workers say of themselves, as one answer."""

from __future__ import annotations

from typing import Any

from listings import model, version

from tensorwire.servers.fronts.together import listings, totals


def listing(*models: dict[str, Any], used: int | None = None, limit: int | None = None) -> dict[str, Any]:
    full = [{"ready": True, "default": False, **one} for one in models]
    return {"models": full, "memory": {"used": used, "limit": limit, "on_demand": False}, "problem": ""}


def one(number: int = 1, **fields: Any) -> dict[str, Any]:
    return version(number, **{"engine": "onnx", **fields})


def test_counts_are_summed_and_told_by_worker() -> None:
    found = {
        number: {
            "server": "s",
            "pid": 100 + number,
            "requests": {"received": number, "failed": 1},
            "pool": {"mapped": 5},
        }
        for number in (0, 2)
    }
    assert totals(found, 3) == {
        "requests": {"received": 2, "failed": 2},
        "pool": {"mapped": 10},
        "workers": {
            "configured": 3,
            "told": 2,
            "each": [
                {"worker": 1, "pid": 100, "requests": {"received": 0, "failed": 1}, "pool": {"mapped": 5}},
                {"worker": 3, "pid": 102, "requests": {"received": 2, "failed": 1}, "pool": {"mapped": 5}},
            ],
        },
    }


def test_one_worker_alone_is_as_it_is() -> None:
    said = listing(model("a", one(2), one(1, state="END", error="broken"), problem="away"), used=5, limit=7)
    said["models"][0]["versions"] = list(said["models"][0]["versions"])
    assert listings({0: said}) == said


def test_versions_are_summed() -> None:
    a = listing(model("m", one(requests=5, failures=1, in_flight=2, p50_ms=1.0, p99_ms=9.0, memory=10)), used=3)
    b = listing(model("m", one(requests=7, p50_ms=2.0, p99_ms=3.0, memory=10)), model("n"), used=4)
    found = listings({0: a, 1: b})
    assert [model["name"] for model in found["models"]] == ["m", "n"]
    (summed,) = found["models"][0]["versions"]
    assert summed == one(requests=12, failures=1, in_flight=2, p50_ms=2.0, p99_ms=9.0, memory=20)
    assert (found["problem"], listings({0: a, 1: b | {"problem": "wrong"}})["problem"]) == ("", "wrong")
    assert found["memory"] == {"used": 7, "limit": None, "on_demand": False}


def test_the_worker_that_is_furthest_from_serving_is_named() -> None:
    workers = {
        0: listing(model("m", one(2), one(1), problem="")),
        1: listing(model("m", one(2, state="LOADING"), one(1, error="its newer files are broken"), problem="gone")),
        2: listing(model("m", one(3, state="START", error="the folder is empty"), one(2), one(1))),
    }
    workers[1]["models"][0]["ready"] = False
    (found,) = listings(workers)["models"]
    assert (found["ready"], found["problem"]) == (False, "worker 2: gone")
    assert [(each["version"], each["state"], each["error"]) for each in found["versions"]] == [
        ("3", "START", "the folder is empty"),
        ("2", "LOADING", "worker 2: is LOADING"),
        ("1", "AVAILABLE", "worker 2: its newer files are broken"),
    ]


def test_a_version_that_one_worker_has_unloaded_already() -> None:
    workers = {0: listing(model("m", one(state="END"))), 1: listing(model("m", one()))}
    (found,) = listings(workers)["models"]
    assert [(each["state"], each["error"]) for each in found["versions"]] == [("AVAILABLE", "")]


def test_what_all_say_is_nobodys_in_particular() -> None:
    broken = listing(model("m", one(state="END", error="broken"), problem="away"))
    (found,) = listings({0: broken, 1: broken})["models"]
    assert (found["problem"], found["versions"][0]["error"]) == ("away", "broken")


def test_copies_are_summed() -> None:
    shadow = {"to": "2", "same": 1, "different": 2, "failed": 3, "skipped": 4, "p50_ms": None, "p99_ms": None}
    a = listing(model("m", shadow={**shadow, "latest": ""}))
    b = listing(model("m", shadow={**shadow, "latest": "y differs", "p99_ms": 3.0}))
    (found,) = listings({0: a, 1: b})["models"]
    told = {"to": "2", "same": 2, "different": 4, "failed": 6, "skipped": 8, "latest": "y differs"}
    assert found["shadow"] == {**told, "p50_ms": None, "p99_ms": 3.0}
