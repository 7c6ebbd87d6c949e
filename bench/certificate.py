"""A certificate for 127.0.0.1 that signs itself, made by the openssl command."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

__all__ = ["self_signed"]

# Python 3.13 and newer ask a root for its key usage.
_EXTENSIONS = ("subjectAltName=IP:127.0.0.1", "keyUsage=critical,digitalSignature,keyCertSign")


def self_signed(folder: Path) -> tuple[Path, Path] | None:
    """Certificate and key (P-256) as PEM files; None where there is no openssl command."""
    if shutil.which("openssl") is None:
        return None
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=127.0.0.1"]
    for extension in _EXTENSIONS:
        command += ["-addext", extension]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key
