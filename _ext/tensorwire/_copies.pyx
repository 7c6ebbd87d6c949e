"""How many bytes of tensors this process has copied on their way to and from the wire; guarded by the interpreter lock."""

cdef Py_ssize_t received = 0, sent = 0


cdef void note_received(Py_ssize_t nbytes) noexcept:
    global received
    received += nbytes


cdef void note_sent(Py_ssize_t nbytes) noexcept:
    global sent
    sent += nbytes


def count_received(Py_ssize_t nbytes):
    """Note a copy of so many bytes of tensors that have been received."""
    note_received(nbytes)


def count_sent(Py_ssize_t nbytes):
    """Note a copy of so many bytes of tensors that are to be sent."""
    note_sent(nbytes)


def copy_stats():
    """Bytes of numeric tensors copied in user space so far by this process, its clients and servers together.

    ``received``: what came in one read with an HTTP head, in chunks, in segments, or through the server of the other
    protocols; what a client copied into an array of ``out``; and inputs that a model's framework cannot take where they
    are. ``sent``: arrays that are strided or big-endian, tensors small enough to go into the header, and answers that are
    joined with their head, each time that they are copied. Not counted: what is copied on request (``bytes(frame)``,
    ``write_into``), and what the event loop, TLS and the kernel do.
    """
    return {"received": received, "sent": sent}
