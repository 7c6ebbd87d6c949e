"""What has been read from a connection, and what has not."""

import asyncio
from typing import final

@final
class Incoming:
    def __init__(self, size: int) -> None: ...

def has_more(transport: asyncio.BaseTransport) -> bool: ...
