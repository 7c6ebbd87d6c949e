"""The way to a model that runs where it is asked, on the event loop's thread."""

cimport cython

from tensorwire._fit cimport Fit
from tensorwire._messages cimport Request, Response, make_response


@cython.final
cdef class Direct:
    """Direct(run, signature, inputs, outputs, all_outputs, asked, results, failed)\n--\n\nA model's own ``run``, by its default ``signature``, between the checks of what it takes and makes.

    ``inputs`` and ``outputs`` say what fits at first sight. ``all_outputs`` are computed for a request that names none,
    ``asked(names)`` for one that names some; ``results(found, asked)`` looks closer at results that do not fit at first
    sight, and ``failed(error, id)`` makes an answer of whatever these and the model raise.
    """

    cdef object run
    cdef str signature
    cdef Fit takes
    cdef Fit makes
    cdef tuple all_outputs
    cdef object asked
    cdef object results
    cdef object failed

    def __init__(self, run, str signature not None, Fit inputs not None, Fit outputs not None,
                 tuple all_outputs not None, asked, results, failed):
        self.run = run
        self.signature = signature
        self.takes = inputs
        self.makes = outputs
        self.all_outputs = all_outputs
        self.asked = asked
        self.results = results
        self.failed = failed

    def answer(self, Request request not None):
        """What the model makes of a request: a Response, or what ``failed`` has made of an error.

        None, and nothing was run, when the request needs more than that: it asks for a version, a label or a signature,
        has a deadline, or brings inputs that do not fit at first sight.
        """
        if request.version or request.label or request.signature or request.deadline_ms:
            return None
        feeds = self.takes.taken(request.inputs)
        if feeds is None:
            return None
        try:
            asked = self.asked(request.outputs) if request.outputs else self.all_outputs
            found = self.run(self.signature, feeds, asked)
            results = self.makes.made(found, asked)
            return make_response(results) if results is not None else Response(self.results(found, asked))
        except BaseException as error:  # a signal that ends the process is no exception on a server's loop
            return self.failed(error, request.id)
