"""What connections may use of a server: bytes, seconds, descriptors."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Limits"]

_MOST_MEMORY = 4 << 30
_OWN_DESCRIPTORS = 64  # what the process needs for itself: listeners, the loop, libraries, logs


def default_memory_limit() -> int:
    """Half of what this machine, or this container, has; at most 4 GiB."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # ValueError: "max", which is no limit
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return max(min(total // 2, _MOST_MEMORY), 1)


def default_max_connections() -> int:
    """As many as the process may have descriptors for, less some of its own."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else max(soft - _OWN_DESCRIPTORS, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a server's connections; passing one is answered with an error where that can still be read.

    Of each connection: ``max_body``: bytes of a request's body. ``max_head``: bytes of a request's head.
    ``head_timeout``: seconds from the first byte of a head to its last, and for TLS to be agreed on.
    ``body_timeout``: seconds in which a body must get further, and the client take more of an answer.
    ``min_rate``: bytes a second that a body must come at, and an answer be taken at, once ``body_timeout`` has passed:
    one byte now and then is progress, and would hold memory for hours. ``idle_timeout``: seconds that a connection may
    wait for its next request.

    Of all together: ``memory_limit``: bytes of request bodies in memory; bodies beyond it wait unread, for at most
    ``body_timeout``. ``max_waiting``: how many of them may; more are refused. ``max_connections``: open at a time.
    ``pool_idle``: seconds after which memory that was freed, and is kept warm for the next bodies, goes back to the
    system.

    Raises ValueError for one that is not above 0 (``max_waiting`` may be 0, and ``min_rate``: any pace will do).
    """

    max_body: int = 512 << 20
    max_head: int = 16 << 10
    head_timeout: float = 20.0
    body_timeout: float = 60.0
    min_rate: int = 16 << 10
    idle_timeout: float = 75.0
    memory_limit: int = field(default_factory=default_memory_limit)
    max_waiting: int = 256
    max_connections: int = field(default_factory=default_max_connections)
    # Fresh memory for 77 MB costs 15 ms once; what a busy hour left behind is missed by others on the machine for days.
    pool_idle: float = 30.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not (value > 0 or (name in ("max_waiting", "min_rate") and value == 0)):
                raise ValueError(f"{name} must be above 0, is {value}")

    @property
    def largest_body(self) -> int:
        """Bytes of the largest body that is taken: ``max_body``, or ``memory_limit`` where that is less."""
        return min(self.max_body, self.memory_limit)
