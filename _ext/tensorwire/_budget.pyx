"""A bound on the memory that a server's request bodies occupy, over all of its connections.

The first line of the class's docstring, up to the dashes, is what inspect.signature reads.

Bytes are taken and queued for on the event loop's thread. They come back on any thread, whichever drops the last view
of a body; the counter is guarded by the interpreter lock, as the pool is.
"""

from collections import deque

cimport cython


@cython.final
cdef class Budget:
    """Budget(limit, max_waiting=256)\n--\n\nAt most ``limit`` bytes in use, but for what is added, and a line of at most ``max_waiting`` who wait for some.

    ``used`` and ``waiting`` are what they are now. ``wake`` is called, on any thread, when bytes come back while
    somebody waits: it must see to it that ``admit`` runs on the event loop. Raises ValueError for a limit under 1.
    """

    def __init__(self, Py_ssize_t limit, Py_ssize_t max_waiting=256):
        if limit < 1 or max_waiting < 0:
            raise ValueError(f"limit is 1 or more and max_waiting 0 or more, not {limit} and {max_waiting}")
        self.limit = limit
        self.max_waiting = max_waiting
        self.queue = deque()

    cdef bint charge(self, Py_ssize_t nbytes) noexcept:
        if nbytes > self.limit - self.used:
            return False
        self.used += nbytes
        return True

    cdef void credit(self, Py_ssize_t nbytes) noexcept:
        self.used -= nbytes
        if self.waiting and not self.woken and self.wake is not None:
            self.woken = True
            try:
                self.wake()
            except RuntimeError:
                pass  # the loop is closed: nobody waits any more

    def take(self, Py_ssize_t nbytes):
        """Use ``nbytes`` more if they are there; True when they were."""
        if nbytes < 0:
            raise ValueError(f"cannot take {nbytes} bytes")
        return self.charge(nbytes)

    def add(self, Py_ssize_t nbytes):
        """Use ``nbytes`` more, whether they are there or not: they are in memory already."""
        if nbytes < 0:
            raise ValueError(f"cannot add {nbytes} bytes")
        self.used += nbytes

    def give(self, Py_ssize_t nbytes):
        """Give back what was taken. Raises ValueError for more than is in use."""
        if not 0 <= nbytes <= self.used:
            raise ValueError(f"cannot give {nbytes} bytes back: {self.used} are in use")
        self.credit(nbytes)

    def wait(self, Py_ssize_t nbytes, callback):
        """Stand in line: ``callback()`` runs once ``nbytes`` are there, and takes them. False when the line is full."""
        if self.waiting >= self.max_waiting:
            return False
        self.queue.append((nbytes, callback))
        self.waiting += 1
        return True

    def leave(self, callback):
        """Give up a place in the line; nothing happens when ``callback`` has none."""
        for entry in self.queue:
            if entry[1] == callback:
                self.queue.remove(entry)
                self.waiting -= 1
                self.credit(0)  # who stood behind may fit
                return

    def admit(self):
        """Let those in whose bytes are there, in order: a large body is not overtaken for ever by small ones."""
        self.woken = False
        while self.waiting and self.queue[0][0] <= self.limit - self.used:
            _, callback = self.queue.popleft()
            self.waiting -= 1
            callback()
