"""What the blocking client and the asynchronous one have in common: all but waiting."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Generic, Protocol, TypedDict, TypeVar

from numpy.typing import NDArray

from tensorwire._address import Address, Cert, Verify, request_head
from tensorwire._answer import Answer
from tensorwire._into import Into
from tensorwire._limit import TimeLimit
from tensorwire._messages import Metadata, MetadataRequest, Request, Response, Tensors
from tensorwire._proxy import ProxyOption
from tensorwire._result import metadata_in, response_in
from tensorwire._retry import pause_before
from tensorwire.errors import ConnectionLost, DecodeError, RemoteError

__all__ = ["BaseClient", "Inputs", "Outputs", "RequestFields"]

Inputs = Tensors | Mapping[str, Any] | Sequence[Any] | NDArray[Any]
Outputs = Mapping[str, NDArray[Any]]

_MAX_IDLE: Final = 16  # idle connections kept; more exchanges than this at once still work, and reconnect
_GRACE: Final = 0.25  # seconds that a server's own answer to a passed deadline may take to arrive
_METADATA_RETRIES: Final = 2  # asking for metadata twice changes nothing


class RequestFields(TypedDict, total=False):
    """The fields of a Request besides its tensors."""

    config: str
    model: str
    version: int
    label: str
    signature: str
    id: str
    deadline_ms: int


class _Closable(Protocol):
    def close(self) -> None: ...


_C = TypeVar("_C", bound=_Closable)


class BaseClient(Generic[_C]):
    """A server at one address, and the connections to it that are not in use."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float | None = 60.0,
        connect_timeout: float | None = 5.0,
        total_timeout: float | None = None,
        retries: int = 0,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        token: str | None = None,
        verify: Verify = True,
        cert: Cert = None,
        proxy: ProxyOption = None,
        max_nbytes: int = 2**31 - 1,
    ) -> None:
        """Name a server; it is not connected to yet.

        ``url`` is http://host:port/path, https://... or unix:///path/to.sock. In seconds, None for no limit:
        ``timeout`` is how long an exchange may stand still, ``connect_timeout`` how long a connection may take
        to be made, ``total_timeout`` how long a call may take, retries included.

        A request that finds its kept-alive connection closed is sent once more over a new one. Beyond that,
        ``retries`` is how many more times ``infer`` is sent when the server cannot be reached, goes away
        before its answer begins (it may have run the model then) or answers 503 with Retry-After; ``metadata``
        is sent up to twice more in any case. Pauses between them double from 0.1 s up to 5 s.

        A server's certificate is verified against the system's authorities (or SSL_CERT_FILE); ``verify`` may
        be the path of a file or folder of other ones, or False to trust anyone. ``cert`` is the client's own,
        as a path or (certificate, key). ``auth`` is (user, password) for basic authentication, ``token`` a
        bearer token; ``headers`` are sent with every request. ``max_nbytes`` bounds an answer's body.
        Redirects are not followed.

        ``proxy`` is the URL of an HTTP proxy, http://[user:password@]host:port, or False for none; by default
        http_proxy, https_proxy, all_proxy and no_proxy in the environment say, as usual. unix:// has none. Raises
        ValueError.
        """
        limits = (("timeout", timeout), ("connect_timeout", connect_timeout), ("total_timeout", total_timeout))
        for name, seconds in limits:
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} must be over 0 seconds, or None: {seconds!r}")
        if retries < 0:
            raise ValueError(f"retries must be 0 or more: {retries!r}")
        self._address = Address(url, verify=verify, cert=cert, proxy=proxy)
        self._head = request_head(self._address, _with_credentials(headers or {}, auth, token))
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._total_timeout = total_timeout
        self._no_total = TimeLimit(timeout)
        self._retries = retries
        self._max_nbytes = max_nbytes
        self._response: Callable[[Answer], Response] = partial(response_in, self._address.text)
        self._output_names: tuple[str, ...] = ()
        self._closed = False
        self._idle: list[_C] = []
        self._max_idle = _MAX_IDLE
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address.text!r})"

    def _new_connection(self) -> _C:
        raise NotImplementedError

    def _limit(self, message: Request | MetadataRequest) -> TimeLimit:
        total = self._total_timeout
        deadline_ms = message.deadline_ms if type(message) is Request else 0
        if total is None and not deadline_ms:
            return self._no_total  # It has no clock of its own.
        if deadline_ms:
            allowed = deadline_ms / 1000 + _GRACE
            total = allowed if total is None else min(total, allowed)
        return TimeLimit(self._timeout, total)

    def _pause(
        self, attempt: int, error: ConnectionLost | RemoteError, message: Request | MetadataRequest, limit: TimeLimit
    ) -> float:
        """How many seconds to wait before a request is sent again. Raises its error when it is not."""
        retries = self._retries
        if isinstance(message, MetadataRequest):
            retries = max(retries, _METADATA_RETRIES)
        pause = pause_before(attempt, error, limit) if attempt < retries else None
        try:
            if pause is None:
                raise error
            return pause
        finally:
            del error  # Its traceback refers to this frame.

    def _response_into(self, into: Into) -> Callable[[Answer], Response]:
        return partial(response_in, self._address.text, read=into.read)

    def _metadata(self, answer: Answer) -> Metadata:
        return metadata_in(self._address.text, answer)

    def _into(self, request: Request, out: Outputs) -> Into:
        return Into(out, partial(self._named, request))

    def _named(self, request: Request, tensors: Tensors) -> Tensors:
        """An answer's outputs by their own names, or those asked for, or the metadata's; else without."""
        if tensors.names:
            return tensors
        wanted = request.outputs
        count = len(tensors)
        if wanted:
            if len(wanted) != count:
                text = f"{len(wanted)} outputs asked for ({', '.join(wanted)}), {count} received"
                raise DecodeError(f"{self._address.text}: {text}")
        elif not (request.model or request.version or request.label or request.signature):
            wanted = self._output_names
        if wanted and len(wanted) == count == len(set(wanted)):
            return Tensors(dict(zip(wanted, tensors.arrays, strict=True)))
        return tensors

    def _keep(self, concurrency: int) -> None:
        """Keep so many connections at least, for calls at once. Raises ValueError for less than one."""
        if concurrency < 1:
            raise ValueError(f"concurrency must be 1 or more: {concurrency!r}")
        if self._max_idle:
            self._max_idle = max(self._max_idle, concurrency)

    def _learn(self, metadata: Metadata) -> Metadata:
        """Keep the names of the outputs, for results that come without."""
        self._output_names = tuple(spec.name for spec in metadata.outputs)
        return metadata

    def _take(self) -> _C:
        if self._closed:
            raise RuntimeError(f"{self!r} is closed")
        if self._pid != os.getpid():
            self._idle, self._pid = [], os.getpid()  # A forked child: the sockets are the parent's.
        try:
            return self._idle.pop()
        except IndexError:
            return self._new_connection()

    def _give_back(self, connection: _C) -> None:
        if len(self._idle) >= self._max_idle:
            connection.close()
            return
        self._idle.append(connection)
        if not self._max_idle:  # Another thread has retired the client meanwhile.
            self._retire()

    def _retire(self) -> list[_C]:
        """Keep no connection from now on; exchanges under way, and later ones, still work. Returns what it has closed.

        Lists hand an item to one thread only, so each connection is closed once, by this or a later call.
        """
        self._max_idle = 0
        closed: list[_C] = []
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()
                connection.close()
                closed.append(connection)
        return closed


def _with_credentials(headers: Mapping[str, str], auth: tuple[str, str] | None, token: str | None) -> Mapping[str, str]:
    given = [auth is not None, token is not None, any(name.lower() == "authorization" for name in headers)]
    if sum(given) > 1:
        raise ValueError("give one of auth=, token= and an Authorization header")
    if auth is not None:
        user, password = auth
        if ":" in user:
            raise ValueError("a user name for basic authentication has no colon")
        return {**headers, "authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}
    if token is not None:
        if not token.isascii() or not token.isprintable() or not token:
            raise ValueError("token is not one line of ASCII characters")  # The token itself must not be shown.
        return {**headers, "authorization": f"Bearer {token}"}
    return headers
