"""The head of an HTTP answer on the fast path."""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus

__all__ = ["CLOSE", "KEEP_ALIVE", "refresh_date", "response_head"]

CLOSE = b"connection: close\r\n"
KEEP_ALIVE = b"connection: keep-alive\r\n"  # HTTP/1.0 clients want to be told

_REASONS = {int(status): status.phrase.encode() for status in HTTPStatus}
_date = (-1, b"")


def refresh_date() -> None:
    """Make the date field anew if the second has changed; called once a second and connection, not once an answer."""
    global _date
    now = int(time.time())
    if now != _date[0]:
        _date = (now, b"date: " + formatdate(now, usegmt=True).encode() + b"\r\n")


def response_head(status: int, nbytes: int, connection: bytes) -> bytes:
    """Status line and fields for a body of ``nbytes``; ``connection`` is a whole field line or empty."""
    return b"HTTP/1.1 %d %b\r\ncontent-type: application/octet-stream\r\ncontent-length: %d\r\n%b%b\r\n" % (
        status,
        _REASONS.get(status, b"Unknown"),
        nbytes,
        _date[1],
        connection,
    )
