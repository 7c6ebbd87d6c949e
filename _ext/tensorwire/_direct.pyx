"""The way to a model that runs where it is asked, on the event loop's thread."""

from time import perf_counter

cimport cython

from tensorwire._fit cimport Fit
from tensorwire._messages cimport Request, Response, make_response
from tensorwire._tally cimport Tally


@cython.final
cdef class Direct:
    """Direct(run, signature, inputs, outputs, all_outputs, asked, results, failed, tally)\n--\n\nA model's own ``run``, by its default ``signature``, between the checks of what it takes and makes.

    ``inputs`` and ``outputs`` say what fits at first sight. ``all_outputs`` are computed for a request that names none,
    ``asked(names)`` for one that names some; ``results(found, asked)`` looks closer at results that do not fit at first
    sight, and ``failed(error, id)`` makes an answer of whatever these and the model raise. ``tally`` counts them.
    """

    def __init__(self, run, str signature not None, Fit inputs not None, Fit outputs not None,
                 tuple all_outputs not None, asked, results, failed, Tally tally not None):
        self.run = run
        self.signature = signature
        self.takes = inputs
        self.makes = outputs
        self.all_outputs = all_outputs
        self.asked = asked
        self.results = results
        self.failed = failed
        self.tally = tally

    cdef object answer(self, Request request, double received):
        """What the model makes of a request: a Response, or what ``failed`` has made of an error.

        None, and nothing was run or counted, when the request needs more than that: it asks for a version, a label or a
        signature, has a deadline, or brings inputs that do not fit at first sight.
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
            answer = make_response(results) if results is not None else Response(self.results(found, asked))
        except BaseException as error:  # a signal that ends the process is no exception on a server's loop
            answer = self.failed(error, request.id)
        self.tally.add(received, perf_counter(), type(answer) is not Response)
        return answer


@cython.final
cdef class Directs:
    """Directs()\n--\n\n``models``: Directs by the name that a request gives, '' for the default; whoever knows them changes it.

    ``requests`` counts what was answered, ``failures`` those that were no Response. Nothing is, while it is not ``open``.
    """

    def __init__(self):
        self.models = {}
        self.open = True

    cpdef object answer(self, Request request, double received):
        """The result of a request that was ``received`` by time.perf_counter() and has no deadline but in itself; None,
        and nothing was run or counted, when it is not for one of these.
        """
        cdef Direct direct = self.models.get(request.model) if self.open else None
        if direct is None:
            return None
        result = direct.answer(request, received)
        if result is not None:
            self.requests += 1
            self.failures += type(result) is not Response
        return result
