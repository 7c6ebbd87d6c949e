"""Which versions of which models take requests, and which of them a request is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from tensorwire._direct import Directs
from tensorwire.servers.model import RequestError, quoted
from tensorwire.servers.routing.mirror import Mirror
from tensorwire.servers.routing.rules import NEWEST, MirrorRule, SplitRule, find_version
from tensorwire.servers.routing.served import Served, listed
from tensorwire.servers.routing.split import Split

__all__ = ["Asleep", "Servables"]


class Asleep(RequestError):
    """The version that is meant is not in memory, and would be loaded for a request: see ``Servables.rest``."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(503, f"version {number} of model {name!r} is not in memory")
        self.name = name
        self.number = number


class Servables:
    """Versions by model and number. ``default`` is the model of requests that name none; '' is the first there was.
    ``explain`` says why no version of a known model serves, or one does not that has a number, for the refusal of
    requests; '' when it knows of no reason. ``direct`` answers requests for a version that has all those of its model
    that name none, and runs inline.
    """

    def __init__(self, default: str = "", explain: Callable[[str, int | None], str] | None = None) -> None:
        self.direct: Directs[RequestError] = Directs()
        self._default = default
        self._explain = explain
        self._models: dict[str, _Versions] = {}

    def __iter__(self) -> Iterator[Served]:
        for versions in self._models.values():
            yield from versions.served.values()

    @property
    def default(self) -> str:
        return self._default

    @default.setter
    def default(self, name: str) -> None:
        self._default = name
        self._point("", self._models.get(name))

    @property
    def names(self) -> tuple[str, ...]:
        """The models that are known, whether a version of theirs serves or not, in order."""
        return tuple(self._models)

    def known(self, name: str) -> _Versions:
        """A model is to be served under this name, though no version of it may be there yet."""
        versions = self._models.get(name)
        if versions is None:
            versions = self._models[name] = _Versions(name, self._explain)
            self.default = self.default or name
        return versions

    def forget(self, name: str) -> None:
        """The model is served no longer. Its versions must have been withdrawn."""
        self._models.pop(name, None)
        self._point(name, None)
        if self.default == name:
            self.default = next(iter(self._models), "")

    def publish(self, name: str, number: int, served: Served) -> Served | None:
        """Send requests to this version from now on; returns what it replaces."""
        versions = self.known(name)
        before = versions.served.get(number)
        versions.served[number] = served
        versions.asleep.discard(number)
        self._arrange(versions)
        return before

    def withdraw(self, name: str, number: int) -> Served | None:
        """Send it no more requests; returns it, None when it was not there."""
        versions = self._models.get(name)
        if versions is None:
            return None
        served = versions.served.pop(number, None)
        versions.asleep.discard(number)
        self._arrange(versions)
        return served

    def rest(self, name: str, number: int) -> Served | None:
        """As ``withdraw``, but requests for the version raise Asleep, so that whoever asks can have it loaded."""
        served = self.withdraw(name, number)
        versions = self.known(name)
        versions.asleep.add(number)
        self._arrange(versions)
        return served

    def rule(self, name: str, labels: Mapping[str, int], split: SplitRule, mirror: MirrorRule | None) -> None:
        """Name versions of a model, and divide and copy its requests; replaces what was said before. A version need
        not be there.
        """
        versions = self.known(name)
        versions.labels = dict(labels)
        versions.rule = split
        if mirror is None:
            versions.mirror = None
        elif versions.mirror is None or versions.mirror.rule != mirror:
            versions.mirror = Mirror(name, mirror)
        self._arrange(versions)

    def resolve(self, name: str) -> str:
        """The name of a model that is known, of the default one for ''. Raises RequestError 404."""
        return self._find(name).name

    def versions(self, name: str) -> Mapping[int, Served]:
        """The versions of a known model that serve, by number."""
        return self._models[name].served

    def labels(self, name: str) -> Mapping[str, int]:
        return self._models[name].labels

    def split(self, name: str) -> Mapping[str, float]:
        """The weights of versions, by number or label; empty when the newest has all requests."""
        return self._models[name].rule.weights

    def mirror(self, name: str) -> Mirror | None:
        return self._models[name].mirror

    def pick(self, name: str, version: int | None = None, label: str = "", request_id: str = "") -> Served:
        """The version that a request is for: by number, by label, by the weights of the model's versions, or the
        newest.

        Raises RequestError: 400 for a number and a label, 404 for what is not there (the text says what is), 503 while
        no version of a known model serves; Asleep.
        """
        versions = self._find(name)
        if version is None and not label:
            # Nearly every request; what is divided has no newest.
            return versions.newest or versions.choose(request_id)
        return versions.find(version, label)

    def _arrange(self, versions: _Versions) -> None:
        versions.arrange()
        for name in (versions.name, "") if versions.name == self.default else (versions.name,):
            self._point(name, versions)

    def _point(self, name: str, versions: _Versions | None) -> None:
        """Have requests that give this name answered directly, if these versions allow it."""
        newest = versions.newest if versions is not None else None
        if newest is None or newest.direct is None or newest.mirror is not None:
            self.direct.models.pop(name, None)
        else:
            self.direct.models[name] = newest.direct

    def _find(self, name: str) -> _Versions:
        versions = self._models.get(name or self.default)
        if versions is None:
            raise RequestError(404, f"unknown model {quoted(name)}: this server has {listed(self._models)}")
        return versions


class _Versions:
    """The versions of one model that serve, and those that would if they were asked for (``asleep``).

    ``newest`` takes all requests that name no version; None when there is a choice to make, or none to have.
    """

    __slots__ = ("_explain", "_split", "asleep", "labels", "mirror", "name", "newest", "rule", "served")

    def __init__(self, name: str, explain: Callable[[str, int | None], str] | None) -> None:
        self.name = name
        self._explain = explain
        self.served: dict[int, Served] = {}
        self.asleep: set[int] = set()
        self.labels: dict[str, int] = {}
        self.rule = NEWEST
        self.mirror: Mirror | None = None
        self.newest: Served | None = None
        self._split: Split | None = None

    def arrange(self) -> None:
        """Work out what a request needs, whenever something of it has changed."""
        here = self.served.keys() | self.asleep
        weighted = [
            (name, weight, number)
            for name, weight in self.rule.weights.items()
            if weight and (number := find_version(name, self.labels)) in here and number is not None
        ]
        self._split = Split(weighted) if weighted else None
        self.newest = self.served.get(max(here)) if here and not weighted else None
        mirror = self.mirror
        to = find_version(mirror.rule.to, self.labels) if mirror is not None else None
        if mirror is not None:
            mirror.served = None if to is None else self.served.get(to)
        for number, served in self.served.items():
            served.mirror = mirror if number != to else None

    def choose(self, request_id: str) -> Served:
        """The version for a request that names none."""
        if self._split is not None:
            return self.find(self._split.choose(request_id), "")
        if self.newest is None and self.asleep:
            return self.find(max(self.asleep), "")
        why = self._why()
        raise RequestError(503, f"no version of model {self.name!r} is available{why and f': {why}'}")

    def find(self, version: int | None, label: str) -> Served:
        if label:
            if version is not None:
                raise RequestError(400, f"a version ({version}) and a label ({quoted(label)}): ask for one")
            version = self.labels.get(label)
            if version is None:
                here = f"it has {listed(self.labels)}" if self.labels else "it has no labels"
                raise RequestError(404, f"model {self.name!r} has no version with the label {quoted(label)}: {here}")
        assert version is not None
        served = self.served.get(version)
        if served is None:
            if version in self.asleep:
                raise Asleep(self.name, version)
            known = sorted(self.served.keys() | self.asleep)
            here = f"it has {', '.join(map(str, known))}" if known else "none is available"
            why = self._why(version) or ("" if known else self._why())
            named = f" (label {quoted(label)})" if label else ""
            raise RequestError(404, f"model {self.name!r} has no version {version}{named}: {here}{why and f'; {why}'}")
        return served

    def _why(self, number: int | None = None) -> str:
        return self._explain(self.name, number) if self._explain is not None else ""
