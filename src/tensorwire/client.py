"""The client: run a model on a server as one would call it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self, Unpack, overload

from tensorwire._base import BaseClient, Inputs, Outputs, RequestFields
from tensorwire._http import Connection
from tensorwire._messages import Metadata, MetadataRequest, Request, Response, Tensors

__all__ = ["Client"]

class Client(BaseClient[Connection]):
    """A server at one address, over connections that are kept alive.

        with Client("http://127.0.0.1:9000") as client:
            y = client.infer({"x": x})["y"]

    The options are described with the constructor. Threads may share a client: each exchange under way has a
    connection of its own; a thread looks for its answer for up to 50 microseconds before it sleeps, as long as
    answers come so soon. Every method raises ConnectionLost, DeadlineExceeded, RemoteError (the server's own
    error) and DecodeError (its answer is no message).
    """

    _connection = Connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections, and each one in use after its answer. No call works from then on."""
        self._idle.close()

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
            return self._calls.infer(request)
        into = self._into(request, out)
        return into.tensors(self._calls.send(request, into.read, into.place).outputs)

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

        self._idle.keep(concurrency)
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
        return self._calls.send(message)
