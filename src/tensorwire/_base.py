"""What the blocking client and the asynchronous one have in common: all but waiting."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypedDict, TypeVar

from numpy.typing import NDArray

from tensorwire._address import Address, Cert, Verify, request_head
from tensorwire._calls import Calls
from tensorwire._http import BaseConnection
from tensorwire._idle import IdleConnections
from tensorwire._into import Into
from tensorwire._messages import Metadata, Request, Tensors
from tensorwire._proxy import ProxyOption
from tensorwire._result import Results

__all__ = ["BaseClient", "Inputs", "Outputs", "RequestFields"]

Inputs = Tensors | Mapping[str, Any] | Sequence[Any] | NDArray[Any]
Outputs = Mapping[str, NDArray[Any]]


class RequestFields(TypedDict, total=False):
    """The fields of a Request besides its tensors."""

    config: str
    model: str
    version: int
    label: str
    signature: str
    id: str
    deadline_ms: int


_C = TypeVar("_C", bound=BaseConnection)


class BaseClient(Generic[_C]):
    """A server at one address, and calls of it over connections of one kind."""

    _connection: type[_C]

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
        head = request_head(self._address, _with_credentials(headers or {}, auth, token))
        # It knows nothing of the client: a cycle would keep sockets open until it is collected.
        connect = partial(
            self._connection, self._address, head, connect_timeout=connect_timeout, max_nbytes=max_nbytes
        )
        self._results = Results(self._address.text)
        self._idle = IdleConnections(connect, repr(self))
        self._calls = Calls(self._idle, self._results, timeout, total_timeout, retries)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address.text!r})"

    def _into(self, request: Request, out: Outputs) -> Into:
        return Into(out, partial(self._results.named, request))

    def _learn(self, metadata: Metadata) -> Metadata:
        """Keep the names of the outputs, for results that come without."""
        self._results.learn(metadata)
        return metadata


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
