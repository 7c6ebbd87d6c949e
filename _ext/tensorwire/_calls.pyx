# cython: nonecheck=True
"""Calls of a client: each is an exchange over a connection of its own, or several until one succeeds."""

cimport cython

from time import sleep

from tensorwire._encode cimport INLINE_NBYTES, encoded
from tensorwire._frame cimport Frame
from tensorwire._http cimport Connection
from tensorwire._idle cimport IdleConnections
from tensorwire._limit cimport TimeLimit
from tensorwire._messages cimport MetadataRequest, Request, Response
from tensorwire._result cimport Results

from tensorwire._retry import pause_before
from tensorwire.errors import ConnectionLost, RemoteError

cdef double GRACE = 0.25        # seconds that a server's own answer to a passed deadline may take to arrive
cdef int METADATA_RETRIES = 2   # asking for metadata twice changes nothing


@cython.final
cdef class Calls:
    """Calls(idle, results, timeout, total_timeout, retries)\n--\n\nWhat the calls of a client have in common, and for blocking connections the way of a call from end to end.

    ``timeout`` is how long an exchange may stand still, ``total_timeout`` how long a call may take, in seconds (None:
    no limit); ``retries`` is how many more times a request is sent that nobody has begun to answer.
    """

    def __init__(self, IdleConnections idle not None, Results results not None, timeout, total_timeout, int retries):
        self.idle = idle
        self.results = results
        self.timeout = timeout
        self.total_timeout = total_timeout
        self.endless = TimeLimit(timeout)
        self.retries = retries

    cpdef TimeLimit limit(self, message):
        """How long the call of a message may take, from now on."""
        total = self.total_timeout
        if type(message) is Request and (<Request>message).deadline_ms:
            allowed = (<Request>message).deadline_ms / 1000.0 + GRACE
            total = allowed if total is None else min(total, allowed)
        return self.endless if total is None else TimeLimit(self.timeout, total)

    def pause(self, int attempt, error, message, TimeLimit limit not None):
        """How many seconds to wait before a request is sent again. Raises its error when it is not."""
        cdef int retries = self.retries
        if type(message) is MetadataRequest:
            retries = max(retries, METADATA_RETRIES)
        pause = pause_before(attempt, error, limit) if attempt < retries else None
        if pause is None:
            raise error
        return pause

    def infer(self, Request request not None):
        """The outputs of a model, by their names. Raises what ``send`` does."""
        cdef Response response = self.call(request, None, None)
        return self.results.named(request, response.outputs)

    def send(self, message, read=None, place=None):
        """Send one message and return the answer as it came.

        ``read`` and ``place`` are for responses, as for ``Results.response`` and ``Connection.exchange``. Raises
        EncodeError, ConnectionLost, DeadlineExceeded, RemoteError and DecodeError.
        """
        return self.call(message, read, place)

    cdef object call(self, message, read, place):
        cdef Frame frame = encoded(message, INLINE_NBYTES)
        cdef TimeLimit limit = self.limit(message)
        cdef Connection connection
        cdef int attempt = 0
        while True:
            connection = self.idle.take()
            try:
                answer = connection.exchange(frame, limit, place)
                if type(message) is MetadataRequest:
                    return self.results.metadata(answer)
                return self.results.response(answer, read)
            except (ConnectionLost, RemoteError) as error:
                pause = self.pause(attempt, error, message, limit)
            finally:
                self.idle.give_back(connection)
            attempt += 1
            sleep(pause)
