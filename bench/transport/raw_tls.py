"""The floor of a round trip by TLS: Python's ssl over blocking sockets, warm buffers, nothing parsed.

As a module it is the other side, ``python -m bench.transport.raw_tls BUFFER REQUEST RESPONSE CERT KEY``.
"""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_connection, create_server

from bench.children import running
from bench.transport.raw import tune, warm_block


def _receive(sock: ssl.SSLSocket, view: memoryview) -> bool:
    """Fill the memory, a record (16 kB) at a time as OpenSSL gives them; False at the end of the stream."""
    got = 0
    while got < len(view):
        count = sock.recv_into(view[got:])
        if not count:
            return False
        got += count
    return True


class RawTlsClient:
    """One round trip a call; ``cipher`` is what both sides agreed on."""

    def __init__(self, buffer: int, request: int, response: int, port: int, cert: Path) -> None:
        self._out = warm_block(request)
        self._back = warm_block(response)
        plain = create_connection(("127.0.0.1", port))
        tune(plain, buffer)
        context = ssl.create_default_context(cafile=str(cert))
        self._sock = context.wrap_socket(plain, server_hostname="127.0.0.1")
        agreed = self._sock.cipher()
        self.cipher = agreed[0] if agreed else ""

    def __call__(self) -> None:
        self._sock.sendall(self._out)
        _receive(self._sock, self._back)

    def close(self) -> None:
        self._sock.close()


@contextmanager
def raw_tls_client(buffer: int, request: int, response: int, cert: Path, key: Path) -> Iterator[RawTlsClient]:
    """A client and its other side."""
    sizes = [str(buffer), str(request), str(response)]
    with running("bench.transport.raw_tls", *sizes, str(cert), str(key)) as port:
        client = RawTlsClient(buffer, request, response, port, cert)
        try:
            yield client
        finally:
            client.close()


def _serve(buffer: int, request: int, response: int, cert: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    incoming, outgoing = warm_block(request), warm_block(response)
    with create_server(("127.0.0.1", 0)) as listener:
        tune(listener, buffer)  # what is accepted inherits it
        print(json.dumps(listener.getsockname()[1]), flush=True)
        plain, _ = listener.accept()
        tune(plain, buffer)
        sock = context.wrap_socket(plain, server_side=True)
        while _receive(sock, incoming):
            sock.sendall(outgoing)


if __name__ == "__main__":
    _, _buffer, _request, _response, _cert, _key = sys.argv
    _serve(int(_buffer), int(_request), int(_response), _cert, _key)
