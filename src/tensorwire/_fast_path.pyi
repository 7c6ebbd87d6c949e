"""From a complete request to its answer without a detour, for models that run where they are asked."""

from collections.abc import Callable
from typing import Generic, TypeVar, final

from tensorwire._direct import Directs
from tensorwire._frame import Frame
from tensorwire._messages import MetadataRequest, Request, Response
from tensorwire._pending import Exchange

_E = TypeVar("_E")

@final
class FastPath(Generic[_E]):
    def __init__(
        self,
        models: Directs[_E],
        framed: Callable[[Response | _E, bool], tuple[int, Frame]],
        inline_nbytes: int,
    ) -> None: ...
    def take(self, exchange: Exchange) -> Request | MetadataRequest | None: ...
