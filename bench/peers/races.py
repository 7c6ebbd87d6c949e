"""Ours beside the best of its peers on one workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bench.peers import OURS
from bench.peers.remarks import remark
from bench.report import RATE, Report, Standing

__all__ = ["is_ours", "race"]


def is_ours(subject: str) -> bool:
    return subject.startswith(OURS)


def race(report: Report, row: str, taken: Mapping[str, float], unit: str = "s") -> None:
    """Add the standing to the report, when ``taken`` (figures by subject) has ours and at least one peer."""
    ours = {name: value for name, value in taken.items() if is_ours(name)}
    theirs = {name: value for name, value in taken.items() if not is_ours(name)}
    if not ours or not theirs:
        return
    best = max if unit == RATE else min
    subject, peer = best(ours, key=ours.__getitem__), best(theirs, key=theirs.__getitem__)
    standing = Standing(row, subject, ours[subject], peer, theirs[peer], unit=unit)
    report.standings.append(replace(standing, remark=remark(standing)))
