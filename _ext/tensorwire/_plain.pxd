from tensorwire._answer cimport Answer
from tensorwire._exchange cimport Exchange
from tensorwire._limit cimport TimeLimit

cdef Answer run(Exchange exchange, int fd, TimeLimit limit, layer)
