"""What becomes of models and their versions, for people and for programs that ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tensorwire.servers.model import Model
from tensorwire.servers.repository.managed import ManagedModel
from tensorwire.servers.repository.version import State
from tensorwire.servers.routing.mirror import Mirror
from tensorwire.servers.routing.servables import Servables
from tensorwire.servers.routing.served import Served

__all__ = ["PERCENTILES", "ModelStatus", "VersionStatus", "model_status", "why_unavailable"]

PERCENTILES = (50.0, 99.0)
"""Those that a version's status has."""

_MOST_TOLD = 3  # versions in one line of reasons


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """A version: its state by TensorFlow Serving's names, the error that ended it or keeps its newer files or itself
    out, and the time.time() at which it entered each state.

    Of one that serves also: what runs it, requests under way, ``requests`` answered since it was loaded and
    ``failures`` among them, the 50th and 99th of their ``percentiles`` (seconds, of the last 1,024; empty before the
    first), and ``memory``, the bytes that it takes (None: not known). ``asleep``: it will be loaded when it is asked
    for. ``working`` is False while what runs it cannot take requests; ``note`` is what the model says of itself.
    """

    number: int
    state: str
    error: str = ""
    since: Mapping[str, float] = field(default_factory=dict)
    engine: str = ""
    in_flight: int = 0
    requests: int = 0
    failures: int = 0
    percentiles: Sequence[float] = ()
    memory: int | None = None
    asleep: bool = False
    working: bool = True
    note: str = ""

    @property
    def available(self) -> bool:
        return self.state == "AVAILABLE"

    @property
    def ready(self) -> bool:
        """It answers requests, those for one that is asleep included."""
        return self.asleep or (self.available and self.working)


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model with its versions, newest first. ``problem``: why its base path cannot be read, '' while it can.

    ``traffic``: weights of versions, by number or label; empty when the newest has all requests. ``mirror``: the copies
    of its requests, None when none are made. ``asleep``: a version will be loaded when it is asked for.
    """

    name: str
    versions: Sequence[VersionStatus]
    labels: Mapping[str, int]
    problem: str = ""
    traffic: Mapping[str, float] = field(default_factory=dict)
    mirror: Mirror | None = None
    asleep: bool = False

    @property
    def ready(self) -> bool:
        return self.asleep or any(version.available for version in self.versions)


def model_status(
    name: str, servables: Servables, managed: ManagedModel | None, finishing: Sequence[Served] = ()
) -> ModelStatus:
    """What became of a known model; ``managed`` has its history, if anybody looks after it, ``finishing`` are versions
    of any models that answer what they still have.
    """
    served = {int(one.model.version): one for one in finishing if one.model.name == name and managed is not None}
    served.update(servables.versions(name))
    if managed is None:
        found = [_status(number, str(State.AVAILABLE), one) for number, one in served.items()]
    else:
        found = [
            _status(
                number,
                str(version.state),
                served.get(number),
                error=version.error,
                since=version.times(),
                memory=version.nbytes,
                asleep=version.asleep,
            )
            for number, version in managed.versions.items()
        ]
    found.sort(key=lambda version: version.number, reverse=True)
    return ModelStatus(
        name,
        found,
        servables.labels(name),
        managed.problem if managed is not None else "",
        servables.split(name),
        servables.mirror(name),
        managed is not None and any(version.asleep for version in managed.versions.values()),
    )


def _status(
    number: int,
    state: str,
    served: Served | None,
    *,
    error: str = "",
    since: Mapping[str, float] | None = None,
    memory: int | None = None,
    asleep: bool = False,
) -> VersionStatus:
    if served is None:
        return VersionStatus(number, state, error, since or {}, memory=memory, asleep=asleep)
    model: Model = served.model
    return VersionStatus(
        number,
        state,
        error,
        since or {},
        model.engine,
        served.in_flight,
        served.tally.requests,
        served.tally.failures,
        served.tally.percentiles(*PERCENTILES),
        model.memory if memory is None else memory,
        asleep,
        model.ready,
        model.status,
    )


def why_unavailable(status: ModelStatus, number: int | None = None) -> str:
    """Why no version of a model takes requests, or the one of a number does not, on one line; '' when one does, or when
    there is none of that number.
    """
    versions = [version for version in status.versions if number in (None, version.number)]
    if any(version.ready for version in versions) or (number is not None and not versions):
        return ""
    reasons = [status.problem] if status.problem else []
    reasons += [f"version {version.number} {_state_text(version)}" for version in versions[:_MOST_TOLD]]
    return " ".join("; ".join(reasons).split()) or "no version of it is complete yet"


def _state_text(version: VersionStatus) -> str:
    match version.state:
        case "LOADING":
            return "is being loaded"
        case "UNLOADING":
            return "is being unloaded"
        case "AVAILABLE":
            return f"cannot take requests now{_after(version.note)}"
        case "END":
            return f"cannot be served: {version.error}" if version.error else "has been unloaded"
    return f"waits to be loaded{_after(version.error)}"


def _after(text: str) -> str:
    return f": {text}" if text else ""
