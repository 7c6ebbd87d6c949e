"""The exceptions of tensorwire, one small tree.

    TensorwireError
    ├── DecodeError (ValueError)          bytes that are not a valid message
    │   └── LimitError                    valid so far, but over a limit that the caller set
    ├── EncodeError (TypeError)           a value that the wire cannot carry
    ├── RemoteError                       the server answered with an error: .code, .message, .status
    ├── ConnectionLost (ConnectionError)  the peer could not be reached, or went away mid-exchange
    └── DeadlineExceeded (TimeoutError)   no answer within the time allowed

Each also derives from the builtin in brackets, so code that catches builtins keeps working.
"""

from __future__ import annotations

__all__ = [
    "ConnectionLost",
    "DeadlineExceeded",
    "DecodeError",
    "EncodeError",
    "LimitError",
    "RemoteError",
    "TensorwireError",
]


class TensorwireError(Exception):
    """Base of every error that tensorwire raises on purpose."""


class DecodeError(TensorwireError, ValueError):
    """The bytes are not a valid message; the text names the field and the offset."""


class LimitError(DecodeError):
    """A well-formed part of a message is over a limit; the text names the limit's parameter."""


class EncodeError(TensorwireError, TypeError):
    """A value cannot be put on the wire: unknown dtype, ragged list, message over 2 GiB."""


class RemoteError(TensorwireError):
    """The server's own error.

    ``code`` is the wire's Error.code (int), ``message`` its text, ``status`` the HTTP status that came with
    it (0 when the answer was not HTTP), ``retry_after`` how many seconds the server asks to wait before the
    request is sent again (None when it does not say).
    """

    retry_after: float | None = None

    def __init__(self, code: int, message: str, status: int = 0) -> None:
        super().__init__(code, message, status)
        self.code = code
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return f"{self.message} (code {self.code})"


class ConnectionLost(TensorwireError, ConnectionError):
    """The connection could not be made, or ended before the answer was complete.

    ``unanswered`` is True when not one byte of an answer had come.
    """

    unanswered: bool = False


class DeadlineExceeded(TensorwireError, TimeoutError):
    """The time allowed for a connection, a read or the whole exchange has passed."""
