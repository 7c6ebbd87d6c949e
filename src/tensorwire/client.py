"""The client: run a model on a server as one would call it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from time import sleep
from types import TracebackType
from typing import Self, TypeVar, Unpack, overload

from tensorwire._answer import Answer
from tensorwire._base import BaseClient, Inputs, Outputs, RequestFields
from tensorwire._encode import encode
from tensorwire._exchange import Place
from tensorwire._http import Connection
from tensorwire._messages import Metadata, MetadataRequest, Request, Response, Tensors
from tensorwire.errors import ConnectionLost, RemoteError

__all__ = ["Client"]

_R = TypeVar("_R")


class Client(BaseClient[Connection]):
    """A server at one address, over connections that are kept alive.

        with Client("http://127.0.0.1:9000") as client:
            y = client.infer({"x": x})["y"]

    The options are described with the constructor. Threads may share a client: each exchange under way has a
    connection of its own. Every method raises ConnectionLost, DeadlineExceeded, RemoteError (the server's own
    error) and DecodeError (its answer is no message).
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections, and each one in use after its answer. No call works from then on."""
        self._closed = True
        self._retire()

    def infer(
        self,
        inputs: Inputs,
        outputs: Sequence[str] = (),
        *,
        out: Outputs | None = None,
        **fields: Unpack[RequestFields],
    ) -> Tensors:
        """Run the model and return its outputs: views of the received message, writable, each keeps it alive.

        Arguments are those of Request. Inputs are sent from where they are: do not write to them meanwhile.
        The result has the names that the answer gives; else the names asked for in ``outputs``; else, when
        the default model was asked and ``metadata()`` was called before and counts as many outputs, the
        names from there; else none. With ``deadline_ms`` the client gives up soon after it, too.

        ``out`` has arrays for outputs, by name; the result has them in the places of those. The largest one,
        of 64 KiB or more, is received straight into its array if that is contiguous, but for the bytes that
        come with the head (16 KiB at most); others are copied into theirs once. No array in ``out`` may
        overlap an input. After an error what they hold is undefined. Raises also EncodeError, and ValueError
        when an array in ``out`` is read-only, or its output is missing or has another dtype or shape.
        """
        request = Request(inputs, outputs, **fields)
        if out is None:
            return self._named(request, self._call(request, self._response).outputs)
        into = self._into(request, out)
        return into.tensors(self._call(request, self._response_into(into), into.place).outputs)

    def infer_many(
        self,
        inputs: Iterable[Inputs],
        outputs: Sequence[str] = (),
        *,
        concurrency: int = 8,
        progress: bool = False,
        **fields: Unpack[RequestFields],
    ) -> Iterator[Tensors]:
        """Run the model on each of ``inputs``, up to ``concurrency`` at once, and yield the results in their order.

        ``inputs`` is read as results are taken, from the thread that takes them. ``progress`` shows a bar on
        standard error; it needs rich, which ``tensorwire[serve]`` brings. What fails raises its error in its
        place, and ends the iteration. The rest is as for ``infer``.
        """
        from tensorwire._many import in_order

        self._keep(concurrency)
        return in_order(lambda one: self.infer(one, outputs, **fields), inputs, concurrency, progress)

    def metadata(self) -> Metadata:
        """Ask the server what its model is; the output names are kept to name later results."""
        return self._learn(self.send(MetadataRequest()))

    @overload
    def send(self, message: Request) -> Response: ...
    @overload
    def send(self, message: MetadataRequest) -> Metadata: ...
    def send(self, message: Request | MetadataRequest) -> Response | Metadata:
        """Send one message and return the answer as it came: its arrays are views of the received bytes."""
        if isinstance(message, MetadataRequest):
            return self._call(message, self._metadata)
        return self._call(message, self._response)

    def _new_connection(self) -> Connection:
        return Connection(self._address, self._head, connect_timeout=self._connect_timeout, max_nbytes=self._max_nbytes)

    def _call(self, message: Request | MetadataRequest, read: Callable[[Answer], _R], place: Place | None = None) -> _R:
        frame = encode(message)
        limit = self._limit(message)
        attempt = 0
        while True:
            connection = self._take()
            try:
                return read(connection.exchange(frame, limit, place))
            except (ConnectionLost, RemoteError) as error:
                pause = self._pause(attempt, error, message, limit)
            finally:
                self._give_back(connection)
            attempt += 1
            sleep(pause)
