from tensorwire._answer cimport Answer, AnswerHead, HeadBuffer
from tensorwire._memory cimport Chunk

cdef class Format:
    cdef readonly str server
    cdef readonly bytes head
    cdef readonly Py_ssize_t max_nbytes
    cdef bytes last                 # the last request's whole head
    cdef Py_ssize_t last_nbytes     # and the size of its body
    cdef bytes head_for(self, Py_ssize_t nbytes)

cdef class Exchange:
    cdef readonly list pending      # buffers still to be sent, bytes or flat memoryviews
    cdef readonly Answer answer
    cdef readonly bint begun        # any byte of an answer has come
    cdef public bint keep           # the connection may serve another exchange after this one
    cdef readonly bint whole        # the target is a body's end: it may be waited for in one piece
    cdef Format format
    cdef object place
    cdef HeadBuffer buffer
    # Received bytes of heads that are not yet consumed lie from `start` to `filled` in the buffer.
    cdef Py_ssize_t start, filled, searched
    cdef int interim
    cdef AnswerHead head            # of the answer, complete
    cdef object parser              # of the answer, while its body has no length
    cdef bint surplus               # more came than the answer
    cdef Chunk chunk                # the body
    cdef list targets               # where a body's bytes go, the next ones last
    cdef object scratch             # where those of a body without a length go
    # Progress, for the texts of errors. `expected`: bytes of the body, -1 while its size is not known.
    cdef Py_ssize_t total, sent_nbytes, got, expected

    cdef char *room(self, Py_ssize_t *nbytes) except NULL
    cpdef int received(self, Py_ssize_t count) except -1
    cpdef bint sent(self, Py_ssize_t count) except -1
    cpdef int ended(self) except -1
    cdef bint take_head(self) except -1
    cdef int await_head(self) except -1
    cdef object not_http(self, str text)
    cdef int begin_body(self, AnswerHead head) except -1
    cdef int fill(self, Py_ssize_t count) except -1
    cdef list divide(self)
    cdef int feed(self, object data) except -1
    cdef int collect(self) except -1
    cdef int finish(self) except -1
    cdef int check_size(self, Py_ssize_t nbytes) except -1
