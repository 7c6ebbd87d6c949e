"""Calls of a client: each is an exchange over a connection of its own, or several until one succeeds."""

from collections.abc import Callable
from typing import Generic, TypeVar, final, overload

from tensorwire._exchange import Place
from tensorwire._idle import IdleConnections, _Closable
from tensorwire._limit import TimeLimit
from tensorwire._memory import Chunk
from tensorwire._messages import Metadata, MetadataRequest, Request, Response, Tensors
from tensorwire._result import Results
from tensorwire.errors import ConnectionLost, RemoteError

_C = TypeVar("_C", bound=_Closable)

@final
class Calls(Generic[_C]):
    def __init__(
        self,
        idle: IdleConnections[_C],
        results: Results,
        timeout: float | None,
        total_timeout: float | None,
        retries: int,
    ) -> None: ...
    @property
    def idle(self) -> IdleConnections[_C]: ...
    @property
    def results(self) -> Results: ...
    def limit(self, message: Request | MetadataRequest) -> TimeLimit: ...
    def pause(
        self, attempt: int, error: ConnectionLost | RemoteError, message: Request | MetadataRequest, limit: TimeLimit
    ) -> float: ...
    def infer(self, request: Request) -> Tensors: ...
    @overload
    def send(
        self, message: Request, read: Callable[[Chunk], Response] | None = None, place: Place | None = None
    ) -> Response: ...
    @overload
    def send(self, message: MetadataRequest) -> Metadata: ...
