"""What an answer means: the message in it, or the error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import time

from tensorwire._answer import Answer
from tensorwire._decode import decode
from tensorwire._memory import Chunk
from tensorwire._messages import Metadata, Response, Status
from tensorwire.errors import DecodeError, RemoteError

__all__ = ["metadata_in", "response_in", "retry_seconds"]


def response_in(server: str, answer: Answer, read: Callable[[Chunk], Response] | None = None) -> Response:
    """The response of the model (its arrays are views of the answer's body), decoded by ``read``.

    Raises RemoteError when the server, or the model, answered with an error, and DecodeError.
    """
    if answer.status != 200:
        raise _refusal(answer)
    try:
        response = decode(answer.body, Response) if read is None else read(answer.body)
    except DecodeError as error:
        raise _not_the_answer(answer, server, error) from error
    if response.errors:
        raise _remote_error(response.errors, answer.status)
    return response


def metadata_in(server: str, answer: Answer) -> Metadata:
    """What the server said of its model. Raises RemoteError and DecodeError."""
    if answer.status != 200:
        raise _refusal(answer)
    try:
        return decode(answer.body, Metadata)
    except DecodeError as error:
        raise _not_the_answer(answer, server, error) from error


def _not_the_answer(answer: Answer, server: str, error: DecodeError) -> DecodeError:
    return type(error)(f"{server}: {len(answer.body)} bytes received are not the answer: {error}")


def _refusal(answer: Answer) -> RemoteError:
    """The error of a status other than 200: the wire's errors if the body has them, else its first line."""
    try:
        errors = decode(answer.body, Response).errors
    except DecodeError:
        errors = ()
    if errors:
        refusal = _remote_error(errors, answer.status)
    else:
        start = bytes(memoryview(answer.body)[:1024]).decode("utf-8", "replace").strip()
        line = start.splitlines()[0].strip() if start else ""
        refusal = RemoteError(answer.status, line or answer.reason or f"HTTP status {answer.status}", answer.status)
    refusal.retry_after = retry_seconds(answer.retry_after)
    return refusal


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


def _remote_error(errors: Sequence[Status], status: int) -> RemoteError:
    return RemoteError(errors[0].code, "; ".join(error.message for error in errors), status)
