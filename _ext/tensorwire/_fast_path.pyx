"""From a complete request to its answer without a detour, for models that run where they are asked."""

cimport cython

from tensorwire._decode cimport decoded
from tensorwire._direct cimport Directs
from tensorwire._encode cimport encode_response
from tensorwire._frame cimport Frame
from tensorwire._messages cimport Request, Response
from tensorwire._pending cimport Exchange


@cython.final
cdef class FastPath:
    """FastPath(models, framed, inline_nbytes)\n--\n\nReads requests, and answers those that Directs can answer on the spot.

    ``framed(result, names)`` makes status and frame of a result that is an error or needs a closer look (``names``: its
    outputs' are sent along); ``inline_nbytes`` is as for ``encode``.
    """

    cdef Directs models
    cdef object framed
    cdef Py_ssize_t inline_nbytes

    def __init__(self, Directs models not None, framed, Py_ssize_t inline_nbytes):
        self.models = models
        self.framed = framed
        self.inline_nbytes = inline_nbytes

    def take(self, Exchange exchange not None):
        """The message of a complete request (views of its body), which is for a longer way; None once it is answered.

        Raises DecodeError, and what ``Exchange.reply`` does.
        """
        cdef Request request
        cdef Frame frame = None
        message = decoded(exchange.body, None)
        if type(message) is not Request or exchange.deadline is not None or exchange.path != b"/":
            return message
        request = message
        exchange.model = request.model
        result = self.models.answer(request, exchange.started)
        if result is None:
            return message
        if type(result) is Response and not request.outputs:
            try:
                frame = encode_response(result, self.inline_nbytes)
            except Exception:
                pass  # it fails on the other way, too, which tells why
        if frame is not None:
            exchange.reply(200, frame)
        else:
            exchange.reply(*self.framed(result, not request.outputs))
        return None
