"""An exchange over a blocking socket."""

from typing import Protocol

from tensorwire._answer import Answer
from tensorwire._exchange import Exchange
from tensorwire._limit import TimeLimit

class _Layer(Protocol):
    def send(self, exchange: Exchange, limit: TimeLimit) -> None: ...
    def receive(self, exchange: Exchange, limit: TimeLimit) -> None: ...

def run(exchange: Exchange, fd: int, limit: TimeLimit, layer: _Layer | None = None) -> Answer: ...
