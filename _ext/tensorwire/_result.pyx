# cython: nonecheck=True
"""What an answer means: the message in it, or the error; and what its outputs are called."""

cimport cython

from tensorwire._answer cimport Answer
from tensorwire._decode cimport decoded
from tensorwire._messages cimport Metadata, Request, Response, Tensors, make_tensors

from tensorwire._refusal import not_the_answer, refusal, remote_error
from tensorwire.errors import DecodeError


@cython.final
cdef class Results:
    """Results(server)\n--\n\nWhat the answers of a server mean; ``server`` is what errors call it."""

    def __init__(self, str server not None):
        self.server = server
        self.names = ()

    cpdef Response response(self, Answer answer, read=None):
        """The response of the model (its arrays are views of the answer's body), decoded by ``read(body)``.

        Raises RemoteError when the server, or the model, answered with an error, and DecodeError.
        """
        cdef Response response
        if answer.status != 200:
            raise refusal(answer)
        try:
            response = decoded(answer.body, Response) if read is None else read(answer.body)
        except DecodeError as error:
            raise not_the_answer(answer, self.server, error) from error
        if response.errors:
            raise remote_error(response.errors, answer.status)
        return response

    cpdef Metadata metadata(self, Answer answer):
        """What the server said of its model. Raises RemoteError and DecodeError."""
        if answer.status != 200:
            raise refusal(answer)
        try:
            return decoded(answer.body, Metadata)
        except DecodeError as error:
            raise not_the_answer(answer, self.server, error) from error

    def learn(self, Metadata metadata not None):
        """Keep the names of the outputs, for results that come without."""
        self.names = tuple([spec.name for spec in metadata.outputs])

    cpdef Tensors named(self, Request request, Tensors tensors):
        """An answer's outputs by their own names, or those asked for, or the metadata's; else without.

        Raises DecodeError when there are more or fewer than were asked for.
        """
        cdef tuple wanted = request.outputs
        cdef Py_ssize_t count = len(tensors.arrays)
        if tensors.names:
            return tensors
        if wanted:
            if len(wanted) != count:
                text = f"{len(wanted)} outputs asked for ({', '.join(wanted)}), {count} received"
                raise DecodeError(f"{self.server}: {text}")
        elif not (request.model or request.version or request.label or request.signature):
            wanted = self.names
        if wanted and len(wanted) == count == len(set(wanted)):
            return make_tensors(wanted, tensors.arrays)
        return tensors
