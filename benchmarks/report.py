"""Medians and spread of all results as a Markdown table and a plot."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

Values = dict[tuple[str, str], list[float]]
"""(row, contender) → one figure per round."""


class LeftOut(Exception):
    """A part of the report that can't be made here, in one line."""


BEGIN, END = "<!-- make bench writes from here -->", "<!-- make bench writes to here -->"


def load(path: Path) -> tuple[Values, dict[str, str]]:
    """All results of a file of JSON lines, and each row's unit. Errors that a contender met are left out."""
    values: Values = defaultdict(list)
    units: dict[str, str] = {}
    for line in path.read_text().splitlines():
        result = json.loads(line)
        if "value" in result:
            values[result["row"], result["contender"]].append(result["value"])
            units[result["row"]] = result["unit"]
    return values, units


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def cell(figures: Sequence[float]) -> str:
    """Median, and the least and greatest if there are several."""
    if not figures:
        return "–"
    middle = _number(statistics.median(figures))
    return middle if len(figures) == 1 else f"{middle} ({_number(min(figures))}–{_number(max(figures))})"


def table(values: Values, units: dict[str, str]) -> str:
    """Rows down, contenders across."""
    contenders = list(dict.fromkeys(contender for _, contender in values))
    lines = ["| row | " + " | ".join(contenders) + " |", "|---|" + "--:|" * len(contenders)]
    for row, unit in units.items():
        cells = [cell(values.get((row, contender), [])) for contender in contenders]
        lines.append(f"| {row} {unit}".rstrip() + " | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _contenders(text: str) -> list[str]:
    """Those in the first row of a table."""
    row = next((line for line in text.splitlines() if line.startswith("|")), "")
    return [name.strip() for name in row.strip("|").split("|")]


def put_into(document: Path, text: str) -> None:
    """Exchange what stands between the two markers of a document. Raises LeftOut, with nothing changed, also where
    the table there compares with somebody whom this one leaves out."""
    try:
        before, begin, rest = document.read_text().partition(BEGIN)
    except OSError as error:
        raise LeftOut(f"the table is not put into {document}: {error.strerror}") from error
    old, end, after = rest.partition(END)
    if not (begin and end):
        raise LeftOut(f"the table is not put into {document}: it has no line {BEGIN!r}, or none {END!r} behind it")
    if lost := ", ".join(name for name in _contenders(old) if name and name not in _contenders(text)):
        raise LeftOut(f"the table is not put into {document}, which compares with {lost}, too; give another --document")
    document.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def plot(values: Values, units: dict[str, str], path: Path) -> None:
    """Each contender's median in every row, as a share of that of ecfs, on a logarithmic scale. Raises LeftOut."""
    try:
        import matplotlib
    except ImportError as error:
        raise LeftOut('the plot is left out: matplotlib is not installed (pip install "ecfs[bench]")') from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in units if values.get((row, "ecfs"))]
    others = [name for name in dict.fromkeys(contender for _, contender in values) if name != "ecfs"]
    figure, axes = pyplot.subplots(figsize=(10, 1.5 + 0.3 * len(rows)))
    for place, name in enumerate(others):
        shares = {
            number: _share(values, row, name, units[row])
            for number, row in enumerate(rows)
            if values.get((row, name))
        }  # fmt: skip
        axes.scatter(list(shares.values()), list(shares), label=name, marker="osD^vPX*"[place % 8], s=36, alpha=0.8)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_formatter("{x:g}×")
    axes.set_xlabel("right of the line ecfs is better, so many times")
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.4, 1), ncols=4)
    figure.tight_layout()
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise LeftOut(f"the plot is left out: {path}: {error.strerror}") from error
    finally:
        pyplot.close(figure)


def _share(values: Values, row: str, name: str, unit: str) -> float:
    ours, theirs = statistics.median(values[row, "ecfs"]), statistics.median(values[row, name])
    less_is_better = unit == "ms" or row.endswith(("per byte", "of the writes"))
    return theirs / ours if less_is_better else ours / theirs
