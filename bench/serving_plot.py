"""The picture of servers: the 77 MB echo and requests a second beside other servers, models beside their frameworks."""

from __future__ import annotations

from typing import Any, Final

from bench.engines.suite import DIRECT, READY
from bench.peers import OURS
from bench.report import Report
from bench.table import amount

OURS_COLOUR: Final = "#c1121f"
FLOOR_COLOUR: Final = "#8d99ae"
_PEER_COLOUR = "#457b9d"
_ECHO_COLOUR = "#cfd6e1"

Bars = list[tuple[str, float, str]]
"""Label, value and colour, best first."""


def draw(report: Report) -> Any:
    """A figure with a panel for each thing that the run has figures of; None when it has none."""
    import matplotlib.pyplot as plt

    panels: list[tuple[str, str, Bars]] = []
    for workload, _ in _found(report, "transport", "77 MB echo"):
        panels.append((workload, "s", _bars(report, "transport", workload)))
    for workload, unit in _found(report, "load", ""):
        if ":" not in workload:
            panels.append((f"{workload}: requests a second", unit, _bars(report, "load", workload)))
    panels = [panel for panel in panels if any(colour == _PEER_COLOUR for _, _, colour in panel[2])]
    models = _found(report, "engines", "")
    if not panels and not models:
        return None
    columns = 2
    lines = (len(panels) + 1) // columns + bool(models)
    figure = plt.figure(figsize=(15, 2.8 * lines), layout="constrained")
    grid = figure.add_gridspec(lines, columns)
    for index, (title, unit, bars) in enumerate(panels):
        _horizontal(figure.add_subplot(grid[index // columns, index % columns]), title, unit, bars)
    if models:
        _models(figure.add_subplot(grid[lines - 1, :]), report, [name for name, _ in models])
    return figure


def _found(report: Report, suite: str, prefix: str) -> list[tuple[str, str]]:
    """Workloads of a suite with their units."""
    taken = (m for m in report.measurements if m.suite == suite and m.workload.startswith(prefix) and m.samples)
    return list(dict.fromkeys((m.workload, m.unit) for m in taken))


def _bars(report: Report, suite: str, workload: str) -> Bars:
    found: Bars = []
    for m in report.measurements:
        if (m.suite, m.workload) == (suite, workload) and m.median is not None:
            floor = m.subject.startswith("raw")
            found.append(
                (m.subject, m.median, OURS_COLOUR if m.subject == OURS else FLOOR_COLOUR if floor else _PEER_COLOUR)
            )
    return sorted(found, key=lambda bar: bar[1], reverse=suite == "load")


def _horizontal(panel: Any, title: str, unit: str, bars: Bars) -> None:
    labels, values, colours = zip(*bars, strict=True)
    drawn = panel.barh(range(len(bars)), values, color=colours)
    panel.bar_label(drawn, [amount(value, unit) for value in values], padding=3, fontsize=8)
    panel.set_yticks(range(len(bars)), labels)
    panel.invert_yaxis()
    panel.set_title(title)
    panel.margins(x=0.18)
    panel.locator_params(axis="x", nbins=5)
    panel.xaxis.set_major_formatter(lambda value, _: amount(value, unit))
    panel.grid(axis="x", alpha=0.3)


def _median(report: Report, name: str, subject: str) -> float:
    found = report.find("engines", name, subject)
    return found.median or 0.0 if found else 0.0


def _models(panel: Any, report: Report, names: list[str]) -> None:
    """Two bars a model: framework and echo on top of each other, and ours; each in parts of the first."""
    height = 0.38
    for index, name in enumerate(names):
        direct, echo, ours = (_median(report, name, subject) for subject in (DIRECT, READY, OURS))
        whole = direct + echo
        panel.barh(index - height / 2, direct / whole, height, color=FLOOR_COLOUR, label=DIRECT)
        panel.barh(index - height / 2, echo / whole, height, left=direct / whole, color=_ECHO_COLOUR, label=READY)
        bar = panel.barh(index + height / 2, ours / whole, height, color=OURS_COLOUR, label=OURS)
        panel.bar_label(bar, [f"{amount(ours)} beside {amount(direct)} + {amount(echo)}"], padding=3, fontsize=8)
    panel.set_yticks(range(len(names)), names)
    panel.invert_yaxis()
    panel.set(title="A model over the wire, beside the framework in process and an echo of as many bytes")
    panel.margins(x=0.2)
    handles, labels = panel.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    panel.legend(unique.values(), unique.keys(), loc="lower right", fontsize=8)
    panel.grid(axis="x", alpha=0.3)
