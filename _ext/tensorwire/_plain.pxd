from tensorwire._answer cimport Answer
from tensorwire._exchange cimport Exchange
from tensorwire._limit cimport TimeLimit
from tensorwire._spin cimport Spin

cdef Answer run(Exchange exchange, int fd, TimeLimit limit, layer, Spin spin)
