"""The connections of a client that are not in use."""

cimport cython
from posix.unistd cimport getpid

cdef enum:
    MOST = 16                       # kept; more exchanges than this at once still work, and reconnect


@cython.final
cdef class IdleConnections:
    """IdleConnections(open, owner)\n--\n\nA stack of connections that ``open()`` makes when there is none; ``owner`` names the client in errors.

    Threads may share one: nothing else runs between a look at the stack and what follows from it.
    """

    def __init__(self, open not None, str owner not None):
        self.open = open
        self.owner = owner
        self.items = []
        self.most = MOST
        self.pid = getpid()

    def __len__(self):
        return len(self.items)

    def __iter__(self):
        return iter(list(self.items))

    cpdef object take(self):
        """The connection that was used last, or a new one. Raises RuntimeError after ``close``."""
        if self.closed:
            raise RuntimeError(f"{self.owner} is closed")
        if self.pid != getpid():  # A forked child: the sockets are the parent's.
            self.items, self.pid = [], getpid()
        return self.items.pop() if self.items else self.open()

    cpdef int give_back(self, connection) except -1:
        """Keep a connection that was taken, or close it when there are enough."""
        if len(self.items) < self.most:
            self.items.append(connection)
        else:
            connection.close()
        return 0

    def keep(self, Py_ssize_t concurrency):
        """Keep so many at least, for calls at once. Raises ValueError for less than one."""
        if concurrency < 1:
            raise ValueError(f"concurrency must be 1 or more: {concurrency!r}")
        if self.most:
            self.most = max(self.most, concurrency)

    cpdef list retire(self):
        """Keep none from now on; exchanges under way, and later ones, still work. Returns what it has closed."""
        self.most = 0
        retired, self.items = self.items, []
        for connection in retired:
            connection.close()
        return retired

    def close(self):
        """As ``retire``, and hand out none any more."""
        self.closed = True
        return self.retire()
