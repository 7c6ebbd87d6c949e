"""Three pictures of a run.

codec.png has ours and the peers by size, transport.png ours and the floor, serving.png ours and other servers, and
models beside their frameworks.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any, Final

from bench.peers import NAMES, OURS
from bench.report import Report
from bench.serving_plot import FLOOR_COLOUR, OURS_COLOUR
from bench.serving_plot import draw as serving
from bench.table import amount
from bench.workload import SHAPES

RESULTS: Final = Path(__file__).parent / "results"
_ORIGINAL_COLOUR = "#e9c46a"
_PEERS = (
    "#1f77b4",
    "#2ca02c",
    "#98df8a",
    "#9467bd",
    "#c5b0d5",
    "#ff7f0e",
    "#8c564b",
    "#17becf",
    "#6b7280",
    "#bcbd22",
)
_MARKERS = "osD^vP*X<>hpd"


def plot(report: Report, folder: Path = RESULTS) -> list[Path]:
    """Draw what the run has figures for; the files written."""
    import matplotlib as mpl

    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in (("codec.png", _codec), ("transport.png", _transport), ("serving.png", serving)):
        figure = draw(report)
        if figure is not None:
            figure.savefig(folder / name, dpi=130, bbox_inches="tight")
            written.append(folder / name)
    return written


def _series(report: Report, suite: str, verb: str) -> dict[str, list[tuple[float, float]]]:
    """By subject: bytes of the tensor and median seconds."""
    found: dict[str, list[tuple[float, float]]] = {}
    sizes = {f"{verb} {size}": prod(shape) * 4.0 for size, shape in SHAPES.items()}
    for m in report.measurements:
        if m.suite == suite and m.workload in sizes and m.median is not None:
            found.setdefault(m.subject, []).append((sizes[m.workload], m.median))
    return found


def _codec(report: Report) -> Any:
    import matplotlib.pyplot as plt

    suite = "peers" if _series(report, "peers", "encode") else "codec"
    if not _series(report, suite, "encode"):
        return None
    colours = dict(zip([name for name in NAMES if not name.startswith(OURS)], _PEERS, strict=False))
    figure, panels = plt.subplots(1, 2, figsize=(15, 6.5))
    for panel, verb in zip(panels, ("encode", "decode"), strict=True):
        lines = _series(report, suite, verb)
        # The legend stands in the order of the lines' right ends, slowest first.
        for subject in sorted(lines, key=lambda name: -max(lines[name])[1]):
            points = sorted(lines[subject])
            ours = subject.startswith(OURS)
            panel.plot(
                *zip(*points, strict=True),
                label=f"{subject} ({amount(points[-1][1])})",
                color=OURS_COLOUR if ours else colours.get(subject, FLOOR_COLOUR),
                linestyle="-" if subject == OURS or not ours else "--",
                linewidth=3 if subject == OURS else 1.6 if ours else 1.2,
                marker=_MARKERS[NAMES.index(subject) % len(_MARKERS)] if subject in NAMES else "x",
                markersize=5,
                zorder=3 if ours else 2,
            )
        panel.set(xscale="log", yscale="log", xlabel="float32 tensor", ylabel="one call")
        panel.set_title(f"{verb}: time by size of the tensor")
        panel.set_xticks([prod(shape) * 4 for shape in SHAPES.values()], list(SHAPES))
        panel.yaxis.set_major_formatter(lambda seconds, _: amount(seconds))
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        title = "at its largest size"
        panel.legend(title=title, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, frameon=False)
    figure.subplots_adjust(wspace=0.75)
    return figure


def _transport(report: Report) -> Any:
    import matplotlib.pyplot as plt

    rows = [row for row in report.rows if row.suite == "transport" and row.ours is not None]
    if not rows:
        return None
    figure, panel = plt.subplots(figsize=(11, 0.95 * len(rows) + 1.5))
    height = 0.27
    series: list[tuple[str, str, list[float | None]]] = [
        (
            "raw sockets, TLS ones for TLS (floor)",
            FLOOR_COLOUR,
            [row.floor.value if row.floor else None for row in rows],
        ),
        ("tensorwire", OURS_COLOUR, [row.ours for row in rows]),
        ("original client, same server", _ORIGINAL_COLOUR, [row.original for row in rows]),
    ]
    for offset, (label, colour, values) in enumerate(series):
        places = [index + (offset - 1) * height for index, value in enumerate(values) if value is not None]
        shown = [value for value in values if value is not None]
        bars = panel.barh(places, shown, height, label=label, color=colour)
        panel.bar_label(bars, [amount(value) for value in shown], padding=3, fontsize=8)
    panel.set_yticks(range(len(rows)), [row.name for row in rows])
    panel.invert_yaxis()
    panel.set(xscale="log", xlabel="one round trip (median)", title="Round trip to a server in another process")
    panel.xaxis.set_major_formatter(lambda seconds, _: amount(seconds))
    panel.margins(x=0.12)
    panel.grid(axis="x", alpha=0.3)
    panel.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return figure
