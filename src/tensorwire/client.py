"""The client: run a model on a server as one would call it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from threading import Lock
from types import TracebackType
from typing import Any, Final, overload

from numpy.typing import NDArray

from tensorwire._address import Address, request_head
from tensorwire._decode import decode
from tensorwire._encode import encode
from tensorwire._http import Answer, Connection
from tensorwire._messages import Metadata, MetadataRequest, Request, Response, Status, Tensors
from tensorwire.errors import DecodeError, RemoteError

__all__ = ["Client"]

_MAX_IDLE: Final = 16  # idle connections kept; more threads than this at once still work, and reconnect
_GRACE: Final = 0.25  # seconds that a server's own answer to a passed deadline may take to arrive


class Client:
    """A server at one address, over connections that are kept alive.

        with Client("http://127.0.0.1:9000") as client:
            y = client.infer({"x": x})["y"]

    ``url`` is http://host:port/path, https://... (verified against the system's certificates, or
    SSL_CERT_FILE) or unix:///path/to.sock. ``timeout`` is how many seconds an exchange may stand still,
    ``connect_timeout`` how many a connection may take to be made; None means no limit. ``headers`` are sent
    with every request. ``max_nbytes`` bounds an answer's body. Redirects are not followed and proxies not
    used.

    Threads may share a client: each exchange under way has a connection of its own. Every method raises
    ConnectionLost, DeadlineExceeded, RemoteError (the server's own error) and DecodeError (its answer is no
    message). A request that finds its kept-alive connection closed is sent once more over a new one.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float | None = 60.0,
        connect_timeout: float | None = 5.0,
        headers: Mapping[str, str] | None = None,
        max_nbytes: int = 2**31 - 1,
    ) -> None:
        for name, seconds in (("timeout", timeout), ("connect_timeout", connect_timeout)):
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} must be over 0 seconds, or None: {seconds!r}")
        self._address = Address(url)
        self._head = request_head(self._address, headers)
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._max_nbytes = max_nbytes
        self._output_names: tuple[str, ...] = ()
        self._closed = False
        self._lock = Lock()
        self._idle: list[Connection] = []
        self._max_idle = _MAX_IDLE
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"Client({self._address.text!r})"

    def __enter__(self) -> Client:
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
        inputs: Tensors | Mapping[str, Any] | Sequence[Any] | NDArray[Any],
        outputs: Sequence[str] = (),
        *,
        config: str = "",
        model: str = "",
        version: int = 0,
        label: str = "",
        signature: str = "",
        id: str = "",
        deadline_ms: int = 0,
    ) -> Tensors:
        """Run the model and return its outputs: views of the received message, writable, each keeps it alive.

        Arguments are those of Request. Inputs are sent from where they are: do not write to them meanwhile.
        The result has the names that the answer gives; else the names asked for in ``outputs``; else, when
        the default model was asked and ``metadata()`` was called before and counts as many outputs, the
        names from there; else none. With ``deadline_ms`` the client gives up soon after it, too. Raises
        also EncodeError.
        """
        request = Request(
            inputs,
            outputs,
            config=config,
            model=model,
            version=version,
            label=label,
            signature=signature,
            id=id,
            deadline_ms=deadline_ms,
        )
        tensors = self.send(request).outputs
        if tensors.names:
            return tensors
        wanted = request.outputs
        count = len(tensors)
        if wanted:
            if len(wanted) != count:
                text = f"{len(wanted)} outputs asked for ({', '.join(wanted)}), {count} received"
                raise DecodeError(f"{self._address.text}: {text}")
        elif not (model or version or label or signature):
            wanted = self._output_names
        if wanted and len(wanted) == count == len(set(wanted)):
            return Tensors(dict(zip(wanted, tensors.arrays, strict=True)))
        return tensors

    def metadata(self) -> Metadata:
        """Ask the server what its model is; the output names are kept to name later results."""
        metadata = self.send(MetadataRequest())
        self._output_names = tuple(spec.name for spec in metadata.outputs)
        return metadata

    @overload
    def send(self, message: Request) -> Response: ...
    @overload
    def send(self, message: MetadataRequest) -> Metadata: ...
    def send(self, message: Request | MetadataRequest) -> Response | Metadata:
        """Send one message and return the answer as it came: its arrays are views of the received bytes."""
        timeout = self._timeout
        if isinstance(message, Request) and message.deadline_ms > 0:
            allowed = message.deadline_ms / 1000 + _GRACE
            timeout = allowed if timeout is None else min(timeout, allowed)
        frame = encode(message)
        connection = self._take()
        try:
            answer = connection.exchange(frame, timeout)
        finally:
            self._give_back(connection)
        if answer.status != 200:
            raise _refusal(answer)
        try:
            if isinstance(message, MetadataRequest):
                return decode(answer.body, Metadata)
            response = decode(answer.body, Response)
        except DecodeError as error:
            text = f"{self._address.text}: {len(answer.body)} bytes received are not the answer: {error}"
            raise type(error)(text) from error
        if response.errors:
            raise _remote_error(response.errors, answer.status)
        return response

    def _take(self) -> Connection:
        if self._closed:
            raise RuntimeError(f"{self!r} is closed")
        if self._pid != os.getpid():
            # A forked child: the sockets are the parent's, and a lock may have been held when it forked.
            self._lock, self._idle, self._pid = Lock(), [], os.getpid()
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Connection(self._address, self._head, connect_timeout=self._connect_timeout, max_nbytes=self._max_nbytes)

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if len(self._idle) < self._max_idle:
                self._idle.append(connection)
                return
        connection.close()

    def _retire(self) -> None:
        """Keep no connection from now on; exchanges under way, and later ones, still work."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._max_idle = 0
        for connection in idle:
            connection.close()


def _refusal(answer: Answer) -> RemoteError:
    """The error of a status other than 200: the wire's errors if the body has them, else its first line."""
    try:
        errors = decode(answer.body, Response).errors
    except DecodeError:
        errors = ()
    if errors:
        return _remote_error(errors, answer.status)
    start = bytes(memoryview(answer.body)[:1024]).decode("utf-8", "replace").strip()
    line = start.splitlines()[0].strip() if start else ""
    return RemoteError(answer.status, line or answer.reason or f"HTTP status {answer.status}", answer.status)


def _remote_error(errors: Sequence[Status], status: int) -> RemoteError:
    return RemoteError(errors[0].code, "; ".join(error.message for error in errors), status)
