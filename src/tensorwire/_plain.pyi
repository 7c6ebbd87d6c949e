"""An exchange over a plain blocking socket, by its descriptor."""

from tensorwire._answer import Answer
from tensorwire._exchange import Exchange
from tensorwire._limit import TimeLimit

def readable(fd: int) -> bool: ...
def run(exchange: Exchange, fd: int, limit: TimeLimit) -> Answer: ...
