"""The way to a model that runs where it is asked, on the event loop's thread."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar, final

from numpy.typing import NDArray

from tensorwire._fit import Fit
from tensorwire._messages import Request, Response
from tensorwire._tally import Tally

_E = TypeVar("_E")

@final
class Direct(Generic[_E]):
    def __init__(
        self,
        run: Callable[[str, Mapping[str, NDArray[Any]], Sequence[str]], Mapping[str, Any]],
        signature: str,
        inputs: Fit,
        outputs: Fit,
        all_outputs: tuple[str, ...],
        asked: Callable[[tuple[str, ...]], tuple[str, ...]],
        results: Callable[[Mapping[str, Any], Sequence[str]], Mapping[str, NDArray[Any]]],
        failed: Callable[[BaseException, str], _E],
        tally: Tally,
    ) -> None: ...

@final
class Directs(Generic[_E]):
    open: bool
    def __init__(self) -> None: ...
    @property
    def models(self) -> dict[str, Direct[_E]]: ...
    @property
    def requests(self) -> int: ...
    @property
    def failures(self) -> int: ...
    def answer(self, request: Request, received: float) -> Response | _E | None: ...
