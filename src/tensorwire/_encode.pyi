"""encode: from messages to bytes, without copying tensor data."""

from tensorwire._frame import Frame
from tensorwire._messages import Metadata, MetadataRequest, Request, Response

def encode(
    message: Request | MetadataRequest | Response | Metadata, /, *, inline_nbytes: int = 512
) -> Frame: ...
