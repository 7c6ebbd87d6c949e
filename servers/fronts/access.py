"""The access log: one line a request, through the logger 'tensorwire.access' at INFO."""

from __future__ import annotations

import logging
from functools import partial
from time import perf_counter

__all__ = ["ABANDONED", "enabled", "record"]

ABANDONED = 499
"""The status of a request whose client left before the answer, as nginx logs it."""

_log = logging.getLogger("tensorwire.access")
_LONGEST = 120


enabled = partial(_log.isEnabledFor, logging.INFO)
"""True when somebody reads the log: ask before collecting what ``record`` wants."""


def record(
    peer: str, method: bytes, path: bytes, model: str, status: int, received: int, sent: int, started: float
) -> None:
    """Log one request: bytes of the bodies received and sent, time since ``started`` (perf_counter)."""
    _log.info(
        "%s %s %s model=%s %d in=%d out=%d %.2fms",
        peer or "-",
        _plain(method.decode("latin-1")) or "-",
        _plain(path.decode("latin-1")) or "-",
        _plain(model) or "-",
        status,
        received,
        sent,
        (perf_counter() - started) * 1e3,
    )


def _plain(text: str) -> str:
    """A client's text as one word of printable ASCII: it must not be able to forge a log line."""
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "..."
    if text.isascii() and text.isprintable() and " " not in text:
        return text
    return ascii(text)[1:-1].replace(" ", "\\x20")
