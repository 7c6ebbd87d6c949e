"""DLPack export of arrays."""

from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import CapsuleType

@final
class Tensor:
    def __init__(self, array: ArrayLike) -> None: ...
    @property
    def array(self) -> NDArray[Any]: ...
    def __array__(self, dtype: np.dtype[Any] | None = None, copy: bool | None = None) -> NDArray[Any]: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> CapsuleType: ...
