from tensorwire._memory cimport Chunk

cdef enum:
    HEAD_LIMIT = 16 * 1024      # bytes of an answer's head; what llhttp-based servers allow for a request's

cdef class Answer:
    cdef readonly int status
    cdef readonly str reason
    cdef readonly Chunk body
    cdef readonly bytes retry_after

cdef class AnswerHead:
    cdef int status
    cdef str reason
    cdef bytes coded, retry_after   # values of Content-Encoding and Retry-After; empty: none
    cdef Py_ssize_t length          # of the body; -1: not told
    cdef bint chunked               # the body is
    cdef bint closes                # the field Connection says so
    cdef bint keep                  # the connection may serve another exchange after this one
    cdef bint complete              # the message has ended
    cdef bint surplus               # another one has begun after it
    cdef list pieces                # of a body that has no length
    cdef Py_ssize_t nbytes          # of these
    cdef object parse(self, parser, data)

cdef object new_parser(AnswerHead head)
cdef object feed(parser, data)

cdef class HeadBuffer:
    cdef readonly bytearray room
    cdef char *data                 # of `room`, which is never resized
    cdef bint large                 # a body over HEAD_LIMIT came after the last head, or there was none yet
    cdef bytes text                 # the last head
    cdef AnswerHead last            # what it says; None unless its body has a length
    cdef Py_ssize_t repeated(self, Py_ssize_t filled) noexcept
    cdef Py_ssize_t read_end(self, Py_ssize_t filled) noexcept
    cdef int keep_head(self, AnswerHead head, Py_ssize_t start, Py_ssize_t end) except -1
