"""The recorded run in a Markdown file: what stands between two markers is replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.report import Report
from bench.table import Table, all_tables

BEGIN: Final = "<!-- recorded run: written by python -m bench --markdown -->"
END: Final = "<!-- end of the recorded run -->"


def render(report: Report) -> str:
    """Machine, versions and all tables."""
    lines = [f"- {name}: {value}" for name, value in report.machine.items()]
    lines.append("- " + ", ".join(f"{name} {version}" for name, version in report.versions.items()))
    lines.append(f"- the run took {report.seconds:.0f} seconds")
    for table in all_tables(report):
        lines += ["", f"### {table.title[0].upper()}{table.title[1:]}", "", *_rows(table)]
    return "\n".join(lines)


def update(path: Path, report: Report) -> None:
    """Put the run between the markers of a file; appends them, and makes the file, where they are missing."""
    text = path.read_text() if path.exists() else ""
    head, found, rest = text.partition(BEGIN)
    if found:
        _, found, tail = rest.partition(END)
        if not found:
            raise ValueError(f"{path.name}: {END} is missing")
    else:
        head, tail = (f"{text.rstrip()}\n\n" if text else ""), "\n"
    path.write_text(f"{head}{BEGIN}\n\n{render(report)}\n\n{END}{tail}")


def _rows(table: Table) -> list[str]:
    heads = [head or " " for head in table.heads]
    rows = [heads, ["---"] * len(heads), *table.rows]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
