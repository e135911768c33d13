"""Medians and spread of all results as a Markdown table and a plot."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

Values = dict[tuple[str, str], list[float]]
"""(row, contender) → one figure per round."""


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


def put_into(document: Path, text: str) -> None:
    """Exchange what stands between the two markers of a document."""
    before, _, rest = document.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    document.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def plot(values: Values, units: dict[str, str], path: Path) -> None:
    """Each contender's median in every row, as a share of that of ecfs, on a logarithmic scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in units if ("ecfs", row) in {(contender, row) for row, contender in values}]
    others = [name for name in dict.fromkeys(contender for _, contender in values) if name != "ecfs"]
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.34 * len(rows)))
    for place, name in enumerate(others):
        shares = {
            number: _share(values, row, name, units[row])
            for number, row in enumerate(rows)
            if values.get((row, name))
        }  # fmt: skip
        axes.scatter(list(shares.values()), list(shares), label=name, marker="osD^vPX*"[place % 8], s=36, alpha=0.8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("ecfs is this many times as fast (right of the line: ecfs is faster)")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _share(values: Values, row: str, name: str, unit: str) -> float:
    ours, theirs = statistics.median(values[row, "ecfs"]), statistics.median(values[row, name])
    return theirs / ours if unit == "ms" else ours / theirs
