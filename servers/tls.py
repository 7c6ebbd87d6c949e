"""TLS of a server: which files it takes, and the context made of them."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from tensorwire.errors import TensorwireError

__all__ = ["TlsError", "TlsFiles"]


class TlsError(TensorwireError, OSError):
    """A certificate or key cannot be used; the text names the file."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the server's certificate with those between it and the root, its key, and the roots of clients.

    ``key`` None: the key is in the certificate's file. ``client_ca`` None: clients need no certificate; otherwise
    only those are served who have one signed by a certificate in this file.
    """

    cert: Path
    key: Path | None = None
    client_ca: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Read the files. TLS 1.2 and 1.3, HTTP/1.1. Raises TlsError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        for file in (self.cert, self.key, self.client_ca):
            try:
                if file is not None:
                    file.read_bytes()
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
                raise TlsError(f"cannot read {file}: {reason}") from None
        try:
            # A password would be asked for on the terminal, which a server does not have.
            context.load_cert_chain(self.cert, self.key, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            whose = f"{self.cert} and {self.key}" if self.key else f"{self.cert}"
            raise TlsError(f"{whose}: no certificate with its key ({_reason(error)})") from None
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except ssl.SSLError as error:
                raise TlsError(f"{self.client_ca}: no certificates ({_reason(error)})") from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _no_password() -> str:
    raise ValueError("the key has a password; a server takes keys without one")


def _reason(error: Exception) -> str:
    """OpenSSL's reason, without the file and line of its source."""
    reason = getattr(error, "reason", None)
    return str(reason).lower().replace("_", " ") if reason else str(error)
