"""What is counted of the requests that a version of a model answers."""

cimport cython


@cython.final
cdef class Tally:
    """Tally()\n--\n\n``requests`` that were answered, ``failures`` among them, and ``last``, the time.perf_counter() of the last."""

    cpdef void add(self, double began, double now, bint failed) noexcept:
        """A request that came at ``began`` has its answer ``now``, both by time.perf_counter()."""
        self.recent[self.requests & (KEPT - 1)] = now - began
        self.requests += 1
        self.last = now
        self.failures += failed

    def percentiles(self, *percents):
        """Seconds from a request's head to its answer, by nearest rank, over the last 1,024; empty before the first."""
        cdef Py_ssize_t count = min(self.requests, KEPT), i
        if not count:
            return []
        times = sorted([self.recent[i] for i in range(count)])
        return [times[min(int(count * percent / 100), count - 1)] for percent in percents]
