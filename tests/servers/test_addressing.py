"""What a URL names: models, versions, labels and signatures; and what it says when they are not there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from rawhttp import Answer, Raw, head, post

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.fronts.target import find_target
from tensorwire.servers.model import Array, Model, Signature
from tensorwire.servers.routing.target import Target

X = np.arange(3, dtype=np.float32)
IN, OUT = tw.TensorSpec("x", np.float32, (-1,)), tw.TensorSpec("y", np.float32, (-1,))
BINARY = "application/octet-stream"


class Calculator(Model):
    """Two signatures, so that an answer tells which one ran."""

    name = "calc"
    version = "3"
    default_signature = "double"

    def __init__(self) -> None:
        self.signatures = {
            "double": Signature("double", (IN,), (OUT,)),
            "add ten": Signature("add ten", (IN,), (tw.TensorSpec("sum", np.float32, (-1,)),)),
        }

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        return {"y": inputs["x"] * 2} if signature == "double" else {"sum": inputs["x"] + 10}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with BackgroundServer(Calculator()) as server:
        yield server.url


@pytest.fixture
def raw(url: str) -> Iterator[Raw]:
    with Raw(url) as raw:
        yield raw


def message(**fields: Any) -> bytes:
    return bytes(tw.encode(tw.Request({"x": X}, **fields)))


def ask(raw: Raw, path: str, chunked: bool, body: bytes, kind: str = BINARY) -> Answer:
    field = f"Content-Type: {kind}"
    if chunked:
        raw.send(head("POST", path, field, "Transfer-Encoding: chunked") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        return raw.answer()
    return raw.post(body, path, field)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (b"/", None),
        (b"/?x=1", None),
        (b"/?signature=", None),
        (b"/?signature=a", Target(signature="a")),
        (b"/any?x=1&signature=a%26b+c&signature=d", Target(signature="a&b c")),
        (b"/?mysignature=a", None),
        (b"/v1/models/m", Target("m")),
        (b"/v1/models/m%20n/:predict", None),
        (b"/v1/models/m%20n:predict/", Target("m n")),
        (b"/v1/models/m?signature=a", Target("m", signature="a")),
        (b"/v1/models/m/versions/0012:predict?x=2&signature=a", Target("m", 12, signature="a")),
        (b"/v1/models/m/labels/l%C3%A4?", Target("m", label="lä")),
        (b"/v1/models/m/versions/x?signature=a", None),
        (b"/v1/models/m/versions/" + b"9" * 20, None),
        (b"/v1/models/", None),
        (b"/v1/models/m:classify", None),
    ],
)
def test_what_a_path_names(path: bytes, target: Target | None) -> None:
    assert find_target(path) == target


def test_a_signature_in_the_url_of_a_model_in_the_message() -> None:
    request = tw.Request({"x": X}, model="other", version=2, label="")
    assert Target(signature="a").joined(request) == Target("other", 2, signature="a")
    assert Target("other", signature="a").joined(request) == Target("other", 2, signature="a")


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["/", "/any", "/v1/models/calc", "/v1/models/calc/versions/3:predict"])
def test_a_url_names_a_signature(raw: Raw, path: str, chunked: bool) -> None:
    def values(query: str, **fields: Any) -> tuple[str, list[float]]:
        answer = ask(raw, f"{path}{query}", chunked, message(**fields))
        assert answer.status == 200, answer.body
        ((name, array),) = tw.decode(answer.body, tw.Response).outputs.items()
        return name, array.tolist()

    assert values("") == ("y", [0, 2, 4])
    assert values("?signature=double&x=1") == ("y", [0, 2, 4])
    assert values("?signature=add+ten") == ("sum", [10, 11, 12])
    assert values("?signature=add%20ten", signature="add ten") == ("sum", [10, 11, 12])
    assert values("?signature=add%20ten", model="calc", version=3) == ("sum", [10, 11, 12])
    assert values("?other=1", signature="add ten") == ("sum", [10, 11, 12])


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["/", "/v1/models/calc"])
def test_a_signature_that_is_not_there(raw: Raw, path: str, chunked: bool) -> None:
    for body in (message(), bytes(tw.encode(tw.MetadataRequest()))):
        answer = ask(raw, f"{path}?signature=nope", chunked, body)
        assert answer.status == 404
    answer = ask(raw, f"{path}?signature=nope", chunked, message())
    (error,) = tw.decode(answer.body, tw.Response).errors
    assert error.message == "model 'calc' has no signature 'nope': it has 'double', 'add ten'"
    answer = ask(raw, f"{path}?signature=double", chunked, message(signature="add ten"))
    (error,) = tw.decode(answer.body, tw.Response).errors
    assert (answer.status, error.message) == (400, "the URL and the request name different signatures")


def test_a_client_at_a_url_with_a_signature(url: str) -> None:
    with tw.Client(f"{url}/v1/models/calc?signature=add%20ten") as client:
        assert client.infer({"x": X})["sum"].tolist() == [10, 11, 12]
        assert [spec.name for spec in client.metadata().outputs] == ["sum"]


def test_metadata_of_all_signatures_and_of_one(raw: Raw) -> None:
    for path in ("/", "/v1/models/calc/metadata", "/v1/models/calc/versions/003/metadata"):
        told = json.loads(raw.get(path).body)
        assert [spec["name"] for spec in told["outputs"]] == ["y"]
        assert list(told["signatures"]) == ["double", "add ten"]
        assert told["signatures"]["double"] == {"inputs": told["inputs"], "outputs": told["outputs"]}
        one = json.loads(raw.get(f"{path}?signature=add+ten").body)
        assert one["outputs"] == told["signatures"]["add ten"]["outputs"]
        assert [spec["name"] for spec in one["outputs"]] == ["sum"]
        answer = raw.get(f"{path}?signature=nope")
        assert answer.status == 404
        assert json.loads(answer.body)["error"] == "model 'calc' has no signature 'nope': it has 'double', 'add ten'"


WHERE = "a GraphPipe Request goes to"
MISNAMED = [
    ("/versions/x", 400, "a version is a number from 0 to 9223372036854775807, not 'x'"),
    ("/versions/-1", 400, "a version is a number from 0 to 9223372036854775807, not '-1'"),
    ("/versions/" + "9" * 20, 400, f"a version is a number from 0 to 9223372036854775807, not '{'9' * 20}'"),
    ("/versions/x:predict", 400, "not 'x'"),
    (":classify", 404, f"':classify' is not served: {WHERE} /v1/models/NAME[/versions/N|/labels/L][:predict]"),
    ("/versions/3:regress", 404, "':regress' is not served"),
    ("/versions/3/4", 404, f"no model at '/v1/models/calc/versions/3/4': {WHERE} / or /v1/models/NAME"),
    ("/:predict", 404, "no model at"),
    (":unload", 404, "there is no administration here"),
]


@pytest.mark.parametrize(("rest", "status", "told"), MISNAMED)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_url_that_names_nothing(raw: Raw, rest: str, status: int, told: str, chunked: bool) -> None:
    answer = ask(raw, f"/v1/models/calc{rest}", chunked, message())
    assert answer.status == status
    if rest == ":unload":  # a page, where there is one
        assert told in json.loads(answer.body)["error"]
    else:
        (error,) = tw.decode(answer.body, tw.Response).errors
        assert error.code == status and told in error.message
    assert ask(raw, "/v1/models/calc", chunked, message()).status == 200


@pytest.mark.parametrize(("rest", "status", "told"), MISNAMED)
def test_what_is_no_flatbuffer_is_told_the_same(raw: Raw, rest: str, status: int, told: str) -> None:
    answer = raw.post(b"{}", f"/v1/models/calc{rest}", "Content-Type: application/json")
    assert answer.status == status
    assert told in json.loads(answer.body)["error"]


def test_json_for_a_model_that_is_there(raw: Raw) -> None:
    answer = raw.post(b"{}", "/v1/models/calc:predict", "Content-Type: application/json")
    assert answer.status == 415 and b"must be a GraphPipe flatbuffer" in answer.body


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/v1/models/c", 404, "unknown model 'c': this server has 'calc'"),
        ("/v1/models/calc/versions/4", 404, "model 'calc' has no version 4: it has 3"),
        ("/v1/models/calc/versions/x", 400, "a version is a number from 0 to 9223372036854775807, not 'x'"),
        ("/v1/models/calc/versions/" + "9" * 20, 400, "a version is a number"),
        ("/v1/models/calc/labels/x", 404, "model 'calc' has no version with the label 'x': it has no labels"),
    ],
)
@pytest.mark.parametrize("page", ["", "/metadata", "/ready"])
def test_pages_say_what_there_is(raw: Raw, path: str, page: str, status: int, told: str) -> None:
    answer = raw.get(path + page)
    assert answer.status == status
    assert json.loads(answer.body)["error"].startswith(told)


def test_post_is_a_wire_request_only_by_its_type(raw: Raw) -> None:
    raw.send(post(message(), "/v1/models/calc:unload?x=1", "Content-Type: application/octet-stream"))
    assert raw.answer().fields["content-type"] == "application/json"
