"""Administration: load, unload and reload models, set labels, read and replace the configuration, while serving.

Every page wants ``Authorization: Bearer TOKEN``, save where only those who may open a socket's file reach it. Changes
may carry ``If-Match`` with the ETag of the configuration that they are meant for (RFC 9110, 13.1.1); when it has
changed since, the answer is 412 and nothing is done.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tensorwire.servers.fronts.models import model_json
from tensorwire.servers.fronts.render import JsonResponse
from tensorwire.servers.model import RequestError
from tensorwire.servers.repository.config import ConfigError, ModelConfig, RepositoryConfig
from tensorwire.servers.repository.config_file import check_places, read_text
from tensorwire.servers.repository.toml_file import model_from_values, write_toml
from tensorwire.servers.service import Service

__all__ = ["admin_routes"]

_LARGEST = 1 << 20  # bytes of a body
_UNSAFE = ("allow_pickle", "custom_ops")  # options by which a file runs code: the server's own configuration may say so
_Change = Callable[[RepositoryConfig, Request, bytes], RepositoryConfig]


def admin_routes(service: Service, token: str | None) -> list[Route]:
    """The pages, for those who know ``token`` (None: all who reach them); the service must have a repository."""
    admin = _Admin(service, token)
    return [
        Route("/v1/config", admin.show, methods=["GET"]),
        Route("/v1/config", admin.page(_put_config), methods=["PUT"]),
        Route("/v1/models/{name}:load", admin.page(_load), methods=["POST"]),
        Route("/v1/models/{name}:unload", admin.page(_unload), methods=["POST"]),
        Route("/v1/models/{name}:reload", admin.page(_keep, again=True), methods=["POST"]),
        Route("/v1/models/{name}/labels", admin.page(_label), methods=["PUT"]),
        Route("/v1/models/{name}/traffic", admin.page(_route), methods=["PUT"]),
    ]


class _Admin:
    def __init__(self, service: Service, token: str | None) -> None:
        assert service.repository is not None, "only a repository can be administered"
        assert token != "", "an empty token would let everybody in"
        self._service = service
        self._repository = service.repository
        self._token = None if token is None else token.encode()

    async def show(self, request: Request) -> Response:
        self._authorize(request)
        text, etag = self._text()
        return PlainTextResponse(text, headers={"ETag": etag}, media_type="application/toml")

    def page(self, change: _Change, *, again: bool = False) -> Callable[[Request], Awaitable[Response]]:
        """A page that changes the configuration; ``again``: and loads the model that it names anew."""

        async def answer(request: Request) -> Response:
            self._authorize(request)
            body = await _body(request)
            self._check_match(request)
            name = request.path_params.get("name")
            try:
                config = change(self._repository.config, request, body)
            except ConfigError as error:
                raise HTTPException(400, str(error)) from None
            if config != self._repository.config:
                await self._service.configure(config)
            if again and name is not None:
                await self._repository.reload(name)
            outcome = self._outcome(name)
            if change is _label:
                outcome["remarks"] = _label_remarks(outcome)  # the log has them already
            return JsonResponse(outcome, headers={"ETag": self._text()[1]})

        return answer

    def _outcome(self, name: str | None) -> dict[str, Any]:
        default = self._service.default
        if name is None:
            return {"models": [model_json(status, status.name == default) for status in self._service.status()]}
        try:
            return model_json(self._service.status(name)[0], name == default)
        except RequestError:
            return {"name": name, "versions": []}

    def _text(self) -> tuple[str, str]:
        text = write_toml(self._repository.config)
        return text, f'"{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"'

    def _authorize(self, request: Request) -> None:
        if self._token is None:
            return
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self._token):
            raise HTTPException(
                401, "administration needs 'Authorization: Bearer TOKEN'", {"WWW-Authenticate": "Bearer"}
            )

    def _check_match(self, request: Request) -> None:
        wanted = request.headers.get("if-match")
        if wanted is None or wanted.strip() == "*":
            return
        etag = self._text()[1]
        if etag not in [part.strip() for part in wanted.split(",")]:
            raise HTTPException(412, f"the configuration has changed: it is {etag} now", {"ETag": etag})


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _LARGEST:
            raise HTTPException(413, f"body over the limit of {_LARGEST:,} bytes")
    return bytes(body)


def _put_config(config: RepositoryConfig, request: Request, body: bytes) -> RepositoryConfig:
    try:
        wanted = read_text(body.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(f"not text in UTF-8: {error.reason} at byte {error.start}") from None
    before = {model.name: model for model in config.models}
    for model in wanted.models:
        _check_options(model, before.get(model.name))
    return wanted


def _load(config: RepositoryConfig, request: Request, body: bytes) -> RepositoryConfig:
    """Add a model, or replace the fields of one that is there."""
    name = request.path_params["name"]
    values = _object(body)
    before = next((model for model in config.models if model.name == name), None)
    model = model_from_values(name, values, before)
    check_places(RepositoryConfig(models=(model,)))
    _check_options(model, before)
    others = [model if other.name == name else other for other in config.models]
    return replace(config, models=tuple(others if before is not None else [*others, model]))


def _unload(config: RepositoryConfig, request: Request, body: bytes) -> RepositoryConfig:
    name = _known(config, request).name
    default = "" if config.default == name else config.default
    return replace(config, models=tuple([model for model in config.models if model.name != name]), default=default)


def _label(config: RepositoryConfig, request: Request, body: bytes) -> RepositoryConfig:
    """Replace all labels of a model."""
    model = _known(config, request)
    labels = _object(body)
    for label, number in labels.items():
        if type(number) is not int:
            raise ConfigError(f"label {label!r} names a version by its number, not {number!r}")
    changed = replace(model, labels=labels)
    return replace(config, models=tuple([changed if other is model else other for other in config.models]))


def _label_remarks(model: Mapping[str, Any]) -> list[str]:
    """What is to be known of labels whose version does not serve."""
    there = {version["version"] for version in model["versions"] if version["state"] == "AVAILABLE"}
    return [
        f"label {label!r}: version {number} is not available"
        for label, number in model.get("labels", {}).items()
        if str(number) not in there
    ]


def _route(config: RepositoryConfig, request: Request, body: bytes) -> RepositoryConfig:
    """Replace how a model's requests are divided, {"traffic": {"stable": 95, "canary": 5}}, and where they are copied
    to, {"shadow": "canary"}; what is not given stays.
    """
    model = _known(config, request)
    values = _object(body)
    for key in values:
        if key not in ("traffic", "shadow"):
            raise ConfigError(f"unknown key {key!r}: there are traffic, shadow")
    if "shadow" in values and values["shadow"] is None:
        values["shadow"] = {}
    changed = model_from_values(model.name, values, model)
    return replace(config, models=tuple([changed if other is model else other for other in config.models]))


def _keep(config: RepositoryConfig, request: Request, body: bytes) -> RepositoryConfig:
    _known(config, request)
    return config


def _known(config: RepositoryConfig, request: Request) -> ModelConfig:
    name = request.path_params["name"]
    for model in config.models:
        if model.name == name:
            return model
    here = ", ".join(repr(model.name) for model in config.models) or "none"
    raise HTTPException(404, f"no model {name!r} is configured: there are {here}")


def _check_options(model: ModelConfig, before: ModelConfig | None) -> None:
    """What runs code of a file's maker is allowed by the server's own files and flags, not over the network."""
    kept: Mapping[str, Any] = before.options if before is not None else {}
    for name in _UNSAFE:
        if name in model.options and model.options[name] != kept.get(name):
            raise HTTPException(403, f"option {name} can only be set in the server's own configuration file")


def _object(body: bytes) -> dict[str, Any]:
    try:
        values = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"the body is not JSON: {error}") from None
    if not isinstance(values, dict):
        names = ", ".join(field.name for field in fields(ModelConfig) if field.name != "name")
        raise ConfigError(f"the body is a JSON object of a model's fields ({names}), not {type(values).__name__}")
    return values
