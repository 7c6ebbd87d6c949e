"""The latency distribution as a picture, as HdrHistogram draws it: the tail has as much room as the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from tensorwire.servers.loadgen.summary import Summary

__all__ = ["load_plotter", "plot"]

_PERCENTS: Final = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999)
_LABELS: Final = {
    "measured": ("#1f77b4", "as measured (closed loop)"),
    "corrected": ("#c1121f", "corrected for coordinated omission"),
    "scheduled": ("#c1121f", "from the time each request was due"),
}


def load_plotter() -> Any:
    """matplotlib's class Figure, which needs no display. Raises ModuleNotFoundError."""
    from matplotlib.figure import Figure

    return Figure


def plot(summary: Summary, path: Path) -> None:
    """Draw the distribution into a file (.png, .svg or .pdf). Raises OSError and ModuleNotFoundError."""
    figure = load_plotter()(figsize=(10, 5.6), layout="constrained")
    panel = figure.add_subplot()
    most = 2
    for name, histogram in summary.distributions().items():
        shares, seconds = histogram.curve()
        if not len(shares):
            continue
        count = len(histogram)
        most = max(most, count)
        # The slowest request is where the curve ends: one in `count`.
        places = np.log10(1 / np.maximum(1 - shares, 1 / count))
        colour, label = _LABELS[name]
        panel.step(
            np.r_[0.0, places], np.r_[seconds[0], seconds] * 1e3, where="pre", color=colour, label=label, linewidth=1.8
        )
    decades = np.log10(most)
    ticks = [percent for percent in _PERCENTS if percent == 0 or np.log10(1 / (1 - percent / 100)) <= decades + 0.01]
    panel.set_xticks([np.log10(1 / (1 - percent / 100)) for percent in ticks], [f"{percent:g} %" for percent in ticks])
    panel.set_xlim(0, decades * 1.02)
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(_locator())
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panel.yaxis.set_minor_formatter(lambda value, _: "")
    panel.set_xlabel("share of requests that were not slower (each decade of the rest has the same width)")
    panel.set_ylabel("latency (ms)")
    panel.grid(alpha=0.35)
    panel.legend(loc="upper left", frameon=False)
    panel.set_title(_title(summary), loc="left", fontsize=10)
    figure.savefig(path, dpi=130)


def _locator() -> Any:
    from matplotlib.ticker import LogLocator

    return LogLocator(base=10, subs=(1, 2, 5))


def _title(summary: Summary) -> str:
    plan, tally = summary.plan, summary.tally
    load = f"{plan.rate:g} requests/s due, open loop" if plan.rate else "closed loop"
    return (
        f"{summary.model or 'model'} at {plan.url}: {load}, {plan.connections} connections, {plan.duration:g} s\n"
        f"{tally.requests:,} answers, {summary.requests_per_second:,.0f}/s, {tally.errors:,} errors"
        + (f", {tally.unsent:,} never sent" if tally.unsent else "")
    )
