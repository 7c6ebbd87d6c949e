"""Which versions of which models take requests, and what a request's address means."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tensorwire._messages import Request
from tensorwire.servers.check import Check
from tensorwire.servers.model import Model, RequestError, quoted
from tensorwire.servers.pagelock import PageLock
from tensorwire.servers.scheduling.workers import Workers

__all__ = ["ANY", "Servables", "Served", "Target"]

_MOST_LISTED = 20


@dataclass(frozen=True, slots=True)
class Target:
    """Which model, version and signature is meant; '' and None leave it to the server. A label stands for a version."""

    model: str = ""
    version: int | None = None
    label: str = ""
    signature: str = ""

    @classmethod
    def of(cls, request: Request) -> Target:
        """What a request's own fields say. On the wire, version 0 is no version."""
        if not (request.model or request.version or request.label or request.signature):
            return ANY
        return cls(request.model, request.version or None, request.label, request.signature)

    def joined(self, request: Request) -> Target:
        """This, completed by what the request says. Raises RequestError 400 where the two contradict."""
        own = Target.of(request)
        if own is ANY:
            return self
        if own.model and own.model != self.model:
            raise RequestError(
                400, f"the URL is that of model {quoted(self.model)}, the request names {quoted(own.model)}"
            )
        if self.version is None and not self.label:
            version, label = own.version, own.label
        else:
            version, label = self.version, self.label
            if (own.version not in (None, version)) or (own.label and own.label != label):
                raise RequestError(400, "the URL and the request name different versions")
        if self.signature and own.signature not in ("", self.signature):
            raise RequestError(400, "the URL and the request name different signatures")
        return Target(self.model, version, label, self.signature or own.signature)


ANY = Target()
"""The default model, its newest version, its default signature."""


class Served:
    """A model with its threads (``workers``: None when it runs inline) and the prepared checks of its signatures."""

    __slots__ = ("_checks", "_default", "_pages", "model", "workers")

    def __init__(self, model: Model, max_queue: int, loop: asyncio.AbstractEventLoop | None) -> None:
        self.model = model
        self._pages = PageLock(model.device)
        self._checks = {name: Check(signature, exact=model.exact) for name, signature in model.signatures.items()}
        self._default = self._checks[model.default_signature]
        self.workers = (
            None if model.inline else Workers(model.concurrency, name=model.name, max_queue=max_queue, loop=loop)
        )

    def check(self, signature: str) -> Check:
        """The check of a signature by name (empty: the default). Raises RequestError 404."""
        if not signature:
            return self._default
        try:
            return self._checks[signature]
        except KeyError:
            here = _listed(self._checks)
            raise RequestError(
                404, f"model {self.model.name!r} has no signature {quoted(signature)}: it has {here}"
            ) from None

    def end(self) -> None:
        """End the threads when they are free; the model is closed by whoever calls this."""
        if self.workers is not None:
            self.workers.close()
        self._pages.release()


class Servables:
    """Versions by model and number. ``default`` is the model of requests that name none; '' is the first there was."""

    def __init__(self, default: str = "") -> None:
        self.default = default
        self._models: dict[str, _Versions] = {}

    def __iter__(self) -> Iterator[Served]:
        for versions in self._models.values():
            yield from versions.served.values()

    @property
    def names(self) -> tuple[str, ...]:
        """The models that are known, whether a version of theirs serves or not, in order."""
        return tuple(self._models)

    def known(self, name: str) -> _Versions:
        """A model is to be served under this name, though no version of it may be there yet."""
        versions = self._models.get(name)
        if versions is None:
            versions = self._models[name] = _Versions(name)
            self.default = self.default or name
        return versions

    def forget(self, name: str) -> None:
        """The model is served no longer. Its versions must have been withdrawn."""
        self._models.pop(name, None)
        if self.default == name:
            self.default = next(iter(self._models), "")

    def publish(self, name: str, number: int, served: Served) -> Served | None:
        """Send requests to this version from now on; returns what it replaces."""
        versions = self.known(name)
        before = versions.served.get(number)
        versions.served[number] = served
        versions.choose()
        return before

    def withdraw(self, name: str, number: int) -> Served | None:
        """Send it no more requests; returns it, None when it was not there."""
        versions = self._models.get(name)
        if versions is None:
            return None
        served = versions.served.pop(number, None)
        versions.choose()
        return served

    def label(self, name: str, labels: Mapping[str, int]) -> None:
        """Name versions of a model; replaces the labels that it had. A version need not be there."""
        self.known(name).labels = dict(labels)

    def resolve(self, name: str) -> str:
        """The name of a model that is known, of the default one for ''. Raises RequestError 404."""
        return self._find(name).name

    def versions(self, name: str) -> Mapping[int, Served]:
        """The versions of a known model that serve, by number."""
        return self._models[name].served

    def labels(self, name: str) -> Mapping[str, int]:
        return self._models[name].labels

    def pick(self, name: str, version: int | None = None, label: str = "") -> Served:
        """The version that a request is for: by number, by label, or the newest.

        Raises RequestError: 400 for a number and a label, 404 for what is not there (the text says what is), 503 while
        no version of a known model serves.
        """
        versions = self._find(name)
        if version is None and not label:
            if versions.newest is None:
                raise RequestError(503, f"no version of model {versions.name!r} is available")
            return versions.newest
        return versions.find(version, label)

    def _find(self, name: str) -> _Versions:
        versions = self._models.get(name or self.default)
        if versions is None:
            raise RequestError(404, f"unknown model {quoted(name)}: this server has {_listed(self._models)}")
        return versions


class _Versions:
    """The versions of one model that serve."""

    __slots__ = ("labels", "name", "newest", "served")

    def __init__(self, name: str) -> None:
        self.name = name
        self.served: dict[int, Served] = {}
        self.labels: dict[str, int] = {}
        self.newest: Served | None = None

    def choose(self) -> None:
        self.newest = self.served[max(self.served)] if self.served else None

    def find(self, version: int | None, label: str) -> Served:
        if label:
            if version is not None:
                raise RequestError(400, f"a version ({version}) and a label ({quoted(label)}): ask for one")
            version = self.labels.get(label)
            if version is None:
                here = f"it has {_listed(self.labels)}" if self.labels else "it has no labels"
                raise RequestError(404, f"model {self.name!r} has no version with the label {quoted(label)}: {here}")
        assert version is not None
        served = self.served.get(version)
        if served is None:
            here = f"it has {', '.join(map(str, sorted(self.served)))}" if self.served else "none is available"
            named = f" (label {quoted(label)})" if label else ""
            raise RequestError(404, f"model {self.name!r} has no version {version}{named}: {here}")
        return served


def _listed(names: Mapping[str, object]) -> str:
    shown = ", ".join([quoted(name) for name in list(names)[:_MOST_LISTED]])
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return f"{shown}{more}" if shown else "no models"
