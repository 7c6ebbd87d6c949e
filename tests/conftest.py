"""What tests of every part share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Issues the certificates of a module's tests."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def mutual(authority: Authority) -> Iterator[str]:
    """The URL of a server that asks its clients for certificates."""
    # Not above: tests of the codec need no server.
    from tensorwire.servers.background import BackgroundServer
    from tensorwire.servers.engines.echo import EchoModel

    cert, key = authority.issue("server")
    with BackgroundServer(EchoModel(), tls_cert=cert, tls_key=key, tls_client_ca=authority.root) as server:
        yield server.url
