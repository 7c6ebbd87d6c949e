"""Certificates for tests, made by the openssl command."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

__all__ = ["Authority", "client_context"]


KEY_USAGE = ("-addext", "keyUsage=critical,digitalSignature,keyCertSign")  # Python 3.13 and newer ask a root for it


class Authority:
    """A root in a folder: ``root``, and certificates that it has signed."""

    def __init__(self, folder: Path, name: str = "root") -> None:
        if shutil.which("openssl") is None:
            pytest.skip("needs the openssl command")
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.root, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        _openssl(
            "req", "-x509", *_new_key(self._key), "-out", self.root, "-days", "2", "-subj", f"/CN={name}", *KEY_USAGE
        )

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key for 127.0.0.1, ::1 and localhost; ``name`` is the subject."""
        cert, key, wish = (self.folder / f"{name}.{ending}" for ending in ("pem", "key", "csr"))
        _openssl("req", *_new_key(key), "-out", wish, "-subj", f"/CN={name}")
        extensions = self.folder / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost\n")
        _openssl(
            *("x509", "-req", "-in", wish, "-CA", self.root, "-CAkey", self._key, "-CAcreateserial"),
            *("-out", cert, "-days", "2", "-extfile", extensions),
        )
        return cert, key


def client_context(authority: Authority, own: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    """A client that trusts the authority, with a certificate of its own if need be."""
    context = ssl.create_default_context(cafile=str(authority.root))
    if own is not None:
        context.load_cert_chain(*own)
    return context


def _new_key(key: Path) -> list[str | Path]:
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key]


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
