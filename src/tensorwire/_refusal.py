"""The errors of answers that are none."""

from __future__ import annotations

from collections.abc import Sequence
from time import time

from tensorwire._answer import Answer
from tensorwire._decode import decode
from tensorwire._messages import Response, Status
from tensorwire.errors import DecodeError, RemoteError

__all__ = ["not_the_answer", "refusal", "remote_error", "retry_seconds"]


def not_the_answer(answer: Answer, server: str, error: DecodeError) -> DecodeError:
    """What is wrong with a body, and whose it is."""
    return type(error)(f"{server}: {len(answer.body)} bytes received are not the answer: {error}")


def refusal(answer: Answer) -> RemoteError:
    """The error of a status other than 200: the wire's errors if the body has them, else its first line."""
    try:
        errors = decode(answer.body, Response).errors
    except DecodeError:
        errors = ()
    if errors:
        error = remote_error(errors, answer.status)
    else:
        start = bytes(memoryview(answer.body)[:1024]).decode("utf-8", "replace").strip()
        line = start.splitlines()[0].strip() if start else ""
        error = RemoteError(answer.status, line or answer.reason or f"HTTP status {answer.status}", answer.status)
    error.retry_after = retry_seconds(answer.retry_after)
    return error


def remote_error(errors: Sequence[Status], status: int) -> RemoteError:
    """The wire's errors as one; ``status`` is HTTP's."""
    return RemoteError(errors[0].code, "; ".join(error.message for error in errors), status)


def retry_seconds(value: bytes) -> float | None:
    """What a Retry-After field asks for: seconds, or until a date (0 when it has passed); None for neither.

    https://www.rfc-editor.org/rfc/rfc9110.html#section-10.2.3
    """
    if value.isdigit():
        return float(value)
    if not value:
        return None
    from email.utils import mktime_tz, parsedate_tz

    # An obsolete date has no zone and means UTC, as the others do.
    date = parsedate_tz(value.decode("latin-1"))
    try:
        return None if date is None else max(0.0, mktime_tz((*date[:9], date[9] or 0)) - time())
    except (ValueError, OverflowError):
        return None
