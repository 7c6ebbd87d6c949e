"""What one connection may use of a server: bytes and seconds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a connection; passing one ends it, after an error message where that can still be read.

    ``max_body``: bytes of a request's body. ``max_head``: bytes of a request's head. ``head_timeout``:
    seconds from the first byte of a head to its last. ``body_timeout``: seconds in which a body must get
    further. ``idle_timeout``: seconds that a connection may wait for its next request. Raises ValueError for
    one that is not above 0.
    """

    max_body: int = 512 << 20
    max_head: int = 16 << 10
    head_timeout: float = 20.0
    body_timeout: float = 60.0
    idle_timeout: float = 75.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, is {getattr(self, name)}")
