"""A process that generates load: ``python -m tensorwire.servers.loadgen.worker``.

It is a process of its own so that what shows the progress does not take time from what measures. On standard input
it gets a line of JSON (a plan, and the message's length), the message, and a line that says when to start; on
standard output it writes lines of JSON: {"ready"} or {"failed"}, {"progress"}, {"tally"}.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

from tensorwire import Request, decode, encode
from tensorwire.servers.loadgen.generator import Generator
from tensorwire.servers.loadgen.lane import Failed
from tensorwire.servers.loadgen.plan import Plan

__all__: list[str] = []


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    given = sys.stdin.buffer
    settings = json.loads(given.readline())
    frame = encode(decode(given.read(settings["nbytes"]), Request))
    generator = Generator(Plan.from_json(settings["plan"]), frame)
    try:
        generator.open()
        _say(ready=True)
        if given.readline():
            tally = generator.run(lambda *figures: _say(progress=figures))
            _say(tally=tally.to_json())
    except Failed as failure:
        _say(failed=str(failure))
    finally:
        generator.close()


if __name__ == "__main__":
    main()
