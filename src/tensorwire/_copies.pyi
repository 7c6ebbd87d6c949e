"""How many bytes of tensors this process has copied on their way to and from the wire."""

from typing import TypedDict, type_check_only

@type_check_only
class CopyStats(TypedDict):
    received: int
    sent: int

def count_received(nbytes: int) -> None: ...
def count_sent(nbytes: int) -> None: ...
def copy_stats() -> CopyStats: ...
