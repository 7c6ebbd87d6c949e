"""The head of an HTTP answer on the fast path."""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus

__all__ = ["CLOSE", "KEEP_ALIVE", "refresh_date", "response_head"]

CLOSE = b"connection: close\r\n"
KEEP_ALIVE = b"connection: keep-alive\r\n"  # HTTP/1.0 clients want to be told

_REASONS = {int(status): status.phrase.encode() for status in HTTPStatus}
_RETRY = b"retry-after: 1\r\n"  # seconds
_MOST_HEADS = 64
_date = (-1, b"")
_heads: dict[tuple[int, int, bytes], bytes] = {}  # of this second; a server's answers are mostly of one size


def refresh_date() -> None:
    """Make the date field anew if the second has changed; called once a second and connection, not once an answer."""
    global _date
    now = int(time.time())
    if now != _date[0]:
        _heads.clear()
        _date = (now, b"date: " + formatdate(now, usegmt=True).encode() + b"\r\n")


def response_head(status: int, nbytes: int, connection: bytes) -> bytes:
    """Status line and fields for a body of ``nbytes``; ``connection`` is a whole field line or empty.

    A 503 says when to try again.
    """
    head = _heads.get((status, nbytes, connection))
    if head is None:
        if len(_heads) >= _MOST_HEADS:
            _heads.clear()
        head = _heads[status, nbytes, connection] = _make_head(status, nbytes, connection)
    return head


def _make_head(status: int, nbytes: int, connection: bytes) -> bytes:
    return b"HTTP/1.1 %d %b\r\ncontent-type: application/octet-stream\r\ncontent-length: %d\r\n%b%b%b\r\n" % (
        status,
        _REASONS.get(status, b"Unknown"),
        nbytes,
        _date[1],
        connection,
        _RETRY if status == 503 else b"",
    )
