"""A server that tells how much it has copied: ``python -m bench.engines.copies PATH``.

It prints its URL, then, for each line that it reads, the bytes of tensors that this process has copied so far.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tensorwire import copy_stats
from tensorwire.servers.background import BackgroundServer


def main(path: str) -> None:
    with BackgroundServer(Path(path)) as server:
        print(json.dumps(server.url), flush=True)
        for _ in sys.stdin:
            print(json.dumps(copy_stats()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
