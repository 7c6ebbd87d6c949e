"""Whether a peer sends, or takes, bytes at the least rate that a server asks for.

The first line of the class's docstring, up to the dashes, is what inspect.signature reads.
"""

cimport cython


@cython.final
cdef class Pace:
    """Pace(grace, rate)\n--\n\nThe pace of one message: ``rate`` bytes a second on average, once ``grace`` seconds have passed.

    Its clock starts with the first look after ``begin``; ``now`` is in seconds of any clock. A rate of 0 is any pace.
    """

    def __init__(self, double grace, Py_ssize_t rate):
        self.grace = grace
        self.rate = rate

    cpdef void begin(self) noexcept:
        """Another message begins."""
        self.since = 0
        self.moved = 0

    cpdef bint too_slow(self, double now, Py_ssize_t moved) noexcept:
        """A look at a message of which ``moved`` bytes have moved so far."""
        if self.since == 0:
            self.since = now
        return (now - self.since - self.grace) * self.rate > moved

    cpdef bint left_too_long(self, double now, Py_ssize_t left) noexcept:
        """A look at a message, written in one or more parts, of which ``left`` bytes wait to be taken."""
        if left == 0:
            self.begin()
            return False
        if self.since and left < self.left:
            self.moved += self.left - left
        self.left = left
        return self.too_slow(now, self.moved)
