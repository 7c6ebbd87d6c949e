"""The demo: serve the embedded digits classifier and send it digits it has never seen.

    python tools/demo.py            # after `make build`, or just: make demo

Starts `tensorwire serve` as its own process on a free port, talks to it over TCP, and exits 0 when all went well.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.progress import track
from rich.table import Table

import tensorwire as tw
from tensorwire.servers.embedded import heldout

SHADES = " ░▒▓█"
SHOWN = 8
REQUESTS = 2000

console = Console()


@contextmanager
def server() -> Iterator[str]:
    """`tensorwire serve` on a free port; yields its URL, and stops it with SIGTERM."""
    command = [sys.executable, "-m", "tensorwire", "serve", "--listen", "127.0.0.1:0", "--no-access-log"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            found = re.search(r"http://[\d.]+:\d+", line)
            if found:
                yield found.group()
                break
        else:
            raise SystemExit("the server did not start:\n" + "".join(said))
    finally:
        process.terminate()
        process.wait(timeout=30)


def drawn(image: NDArray[Any]) -> str:
    """An 8x8 image of pixels 0 to 16 as text, two characters a pixel."""
    return "\n".join("".join(SHADES[int(p) * 4 // 16] * 2 for p in row) for row in image)


def show(images: NDArray[Any], predicted: NDArray[Any], truth: NDArray[Any]) -> None:
    wrong = np.flatnonzero(predicted != truth)[:2]
    chosen = [*range(SHOWN - len(wrong)), *wrong]
    panels = []
    for i in chosen:
        right = predicted[i] == truth[i]
        title = f"says {predicted[i]}, is {truth[i]}"
        panels.append(Panel(drawn(images[i]), title=title, width=20, border_style="green" if right else "red"))
    console.print(Columns(panels))


def microseconds(work: Callable[[], object], n: int = 200) -> float:
    times = []
    for _ in range(n):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return median(times) * 1e6


def codec_table(images: NDArray[np.float32]) -> Table:
    request = tw.Request({"image": images})
    message = bytes(tw.encode(request))
    text = json.dumps({"image": images.tolist()})
    table = Table(title=f"{len(images)} digits, {images.nbytes:,} bytes of float32", title_justify="left")
    for heading in ("", "encode, µs", "decode, µs", "bytes"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_row(
        "tensorwire",
        f"{microseconds(lambda: tw.encode(request)):.1f}",
        f"{microseconds(lambda: tw.decode(message)):.1f}",
        f"{len(message):,}",
    )
    table.add_row(
        "JSON",
        f"{microseconds(lambda: json.dumps({'image': images.tolist()}), 20):,.0f}",
        f"{microseconds(lambda: np.array(json.loads(text)['image'], np.float32), 20):,.0f}",
        f"{len(text):,}",
    )
    return table


def main() -> int:
    images, truth = heldout()
    with server() as url, tw.Client(url) as client:
        metadata = client.metadata()
        takes, gives = [", ".join(spec.name for spec in specs) for specs in (metadata.inputs, metadata.outputs)]
        console.print(f"model [bold]{metadata.name}[/] at {url}, takes {takes}, gives {gives}\n")
        answer = client.infer({"image": images})
        predicted = answer["label"]
        show(images, predicted, truth)
        accuracy = float((predicted == truth).mean())
        console.print(f"{len(truth)} held-out digits, [bold]{accuracy:.1%}[/] right\n")

        start = time.perf_counter()
        for i in track(range(REQUESTS), description="one digit a request", console=console, transient=True):
            client.infer({"image": images[i % len(images)][np.newaxis]}, outputs=["label"])
        rate = REQUESTS / (time.perf_counter() - start)
        console.print(f"one client, one digit a request: [bold]{rate:,.0f}[/] requests/s\n")
    console.print(codec_table(images))
    return 0 if accuracy >= 0.97 else 1


if __name__ == "__main__":
    raise SystemExit(main())
