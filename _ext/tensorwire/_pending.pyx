"""One request on a connection of a server, and the place for its answer."""

cimport cython

from tensorwire._frame cimport Frame


cdef class Link:
    """What an exchange needs of its connection."""

    cdef int answer(self, int status, Frame frame) except -1:
        raise NotImplementedError

    cdef str peer(self):
        return "gone" if self.transport is None else name_of(self.transport.get_extra_info("peername"))

    @property
    def unread(self):
        """Bytes of answers that the system does not take, since the client has not read what came before them."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()


@cython.final
cdef class Exchange:
    """One request on a connection and the place for its answer.

    ``method`` and ``path`` (the raw target, query included) are as received; ``body`` is the whole body, exactly, or
    None when it was never read (arrays decoded from it are views that keep it alive); ``body_nbytes`` is the length
    announced; ``deadline`` is the value of X-Deadline-Ms, or None; ``started`` is time.perf_counter() when the head was
    complete; ``abandoned`` is True once the client has gone away, when an answer would be thrown away (to be read from
    any thread). ``model`` is the handler's, to note for its log which model was asked for (None until then).
    """

    @property
    def headers(self):
        """Header fields by lower-case name (a new dict); a repeated field keeps its last value."""
        return {name.lower(): value for name, value in self.fields}

    @property
    def peer(self):
        """The other side, for logs: '127.0.0.1:50000', or 'unix'."""
        return self.link.peer()

    def reply(self, int status, Frame frame not None):
        """Send the answer: head, then the frame's buffers as they are (views are kept until written)."""
        if self.abandoned:
            return
        if self.link.exchange is not self:
            raise RuntimeError("this exchange has been answered already")
        self.link.answer(status, frame)


cdef str name_of(object peer):
    """A socket's address as text; a UNIX socket's other side has none."""
    if isinstance(peer, tuple):
        return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"
    return "unix"
