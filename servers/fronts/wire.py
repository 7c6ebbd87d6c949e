"""What all ways to receive a flatbuffer share: which requests are the wire's, and results as frames."""

from __future__ import annotations

import logging

from tensorwire import Chunk, DecodeError, Frame, MetadataRequest, Request, Response, Status, decode, encode
from tensorwire._budget import Budget
from tensorwire.servers.fronts.limits import Limits
from tensorwire.servers.fronts.target import MODELS, is_admin
from tensorwire.servers.model import RequestError

__all__ = [
    "EMPTY_BODY",
    "JOINED_NBYTES",
    "PAGES",
    "busy",
    "error_frame",
    "header_deadline",
    "http_status",
    "internal_error",
    "is_wire",
    "over_limit",
    "read_message",
    "result_frame",
]

_log = logging.getLogger("tensorwire.server")

PAGES = frozenset((b"/healthz", b"/readyz", b"/control/is_ready", b"/control/is_alive", b"/control/client_count"))
"""Paths that are only read; a POST there is a mistake worth a 405."""

# TensorFlow Serving's and KServe's protocols, which have binary bodies of their own.
_RESERVED = (b"/v1/", b"/v2/")
_BINARY = frozenset(
    (
        b"",
        b"application/octet-stream",
        b"application/x-flatbuffers",
        b"application/flatbuffers",
        b"application/x-flatbuffer",
        b"application/vnd.graphpipe",
        b"binary/octet-stream",
    )
)
_STATUSES = frozenset((400, 404, 408, 411, 413, 415, 429, 431, 499, 500, 501, 503, 504))

# Outputs of up to so many bytes are copied next to the header: cheaper than a view, its hold and a vectored write.
JOINED_NBYTES = 8 << 10

EMPTY_BODY = "empty body: a GraphPipe request is a flatbuffer Request message"


def is_wire(method: bytes, path: bytes, content_type: bytes) -> bool:
    """True when a request's head says that its body is a flatbuffer Request.

    That is a POST to '/' of anything but JSON, and a POST elsewhere of no type or a binary one (GraphPipe's
    clients send either, to whatever path they are given), save to pages and where another protocol lives. Below
    /v1/models/ the type must be a binary one: clients of TensorFlow Serving send JSON there without a type.
    """
    if method != b"POST":
        return False
    if content_type:
        content_type = content_type.partition(b";")[0].strip().lower()
    if path == b"/" and content_type in _BINARY:
        return True
    if path.startswith(MODELS):
        return content_type != b"" and content_type in _BINARY and not is_admin(path)
    path = path.partition(b"?")[0]
    if path == b"/":
        return not (content_type.endswith((b"/json", b"+json")))
    return content_type in _BINARY and path not in PAGES and not path.startswith(_RESERVED)


def http_status(code: int) -> int:
    """The HTTP status for a wire error code: the same number where HTTP has it, else 400 or 500."""
    if code in _STATUSES:
        return code
    return 400 if 400 <= code < 500 else 500


def error_frame(code: int, message: str) -> Frame:
    """An InferResponse that holds one error."""
    # A model's exception may quote text that UTF-8 cannot express (lone surrogates).
    message = message.encode("utf-8", "replace").decode()
    return encode(Response(errors=[Status(code, message)]))


def over_limit(nbytes: int, limits: Limits, *, so_far: bool = False) -> str:
    """The text of a 413: how long the body is, or what came of it ``so_far`` (bytes), and which flag sets the limit."""
    flag = "--max-body" if limits.max_body <= limits.memory_limit else "--memory-limit"
    size = f"at least {nbytes:,}" if so_far else f"{nbytes:,}"
    return f"body of {size} bytes is over the limit of {limits.largest_body:,} ({flag})"


def busy(budget: Budget) -> RequestError:
    """The 503 for a body that finds no room in memory."""
    return RequestError(
        503, f"busy: {budget.used:,} bytes of requests are in memory and {budget.waiting} more requests wait"
    )


def header_deadline(value: bytes | None) -> int:
    """Milliseconds of an X-Deadline-Ms field, 0 without one. Raises RequestError 400 for anything else."""
    if value is None:
        return 0
    if value.isdigit() and len(value) < 16 and int(value):
        return int(value)
    raise RequestError(400, f"X-Deadline-Ms: {value[:40]!r} is not a number of milliseconds above 0")


def read_message(body: Chunk | None) -> Request | MetadataRequest:
    """Decode a request (views into ``body``); raises RequestError 400 for bytes that are none."""
    if body is None or not body.nbytes:
        raise RequestError(400, EMPTY_BODY)
    try:
        return decode(body)
    except DecodeError as error:
        raise RequestError(400, str(error)) from None


def internal_error(error: Exception, what: str) -> RequestError:
    """Log an exception that is the server's own fault; returns the error for the client."""
    _log.error("%s failed in the server", what, exc_info=error)
    return RequestError(500, f"internal error: {error!r}")


def result_frame(result: Response | RequestError, names: bool) -> tuple[int, Frame]:
    """HTTP status and frame for a service's result; ``names``: send the outputs' names along.

    Never raises: an answer that cannot be encoded becomes an error of the model's.
    """
    try:
        if isinstance(result, RequestError):
            return http_status(result.code), error_frame(result.code, result.message)
        if not names and result.outputs.names:
            result = Response(result.outputs.arrays)
        return 200, encode(result, inline_nbytes=JOINED_NBYTES)
    except Exception as error:
        _log.exception("the answer cannot be sent")
        return 500, error_frame(500, f"the model's answer cannot be sent: {error}")
