"""How long an exchange may take."""

cimport cython

from time import monotonic

cdef double TOLERANCE = 0.01    # seconds by which the kernel's timers may be early


@cython.final
cdef class TimeLimit:
    """TimeLimit(stall, total=None)\n--\n\nHow long an exchange may stand still, and how long it may last from now on, in seconds; None: no limit."""

    def __init__(self, stall, total=None):
        self.stall = stall
        self.total = total
        self.ends = None if total is None else monotonic() + total

    cpdef object step(self, longest):
        """How many seconds the next step may take, ``longest`` at most. Raises TimeoutError when none are left."""
        if self.ends is None:
            return longest
        left = self.ends - monotonic()
        if left <= 0:
            raise TimeoutError
        return left if longest is None else min(longest, left)

    def passed(self):
        """Which of the limits has passed, in words."""
        if self.ends is not None and monotonic() >= self.ends - TOLERANCE:
            return f"no answer within {self.total} s"
        return f"no progress for {self.stall} s"
