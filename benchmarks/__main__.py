"""Measure what is installed, in turn and repeated.

    python -m benchmarks --rows seq_write,untar --rounds 3 --contenders ecfs,bindfs,raw

Each turn gets six fresh drives in memory. Results are appended to a file of JSON lines as they come, so that a long
table can be measured in pieces; the Markdown table and the plot are of everything in that file. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from benchmarks import aging, degraded, latency, workloads  # noqa: F401 (they register their rows)
from benchmarks.ceilings import RawDrives
from benchmarks.contenders import ALL, ROOT, Contender, Unsupported
from benchmarks.drives import six_drives
from benchmarks.nodes import NODES
from benchmarks.report import LeftOut, load, plot, put_into, table
from benchmarks.rows import ROWS, Row, Turn, with_needed

DEFAULT: dict[str, type[Contender]] = ALL | {"raw": RawDrives}
CONTENDERS = DEFAULT | NODES


Result = dict[str, str | float]
"""row, contender, and either value and unit or error."""


def take_turn(kind: type[Contender], rows: list[Row], options: argparse.Namespace) -> Generator[Result, None, None]:
    """One contender, every row once. What fails is a result, too."""
    with six_drives(options.drive_mib) as drives:
        contender = kind(drives)
        turn = Turn(contender, options.mib, options.files)
        contender.start()
        try:
            left_out: set[str] = set()
            for row in rows:
                try:
                    yield from _measure(row, turn) if left_out.isdisjoint(row.after) else ()
                except Unsupported:
                    left_out.add(row.name)
        finally:
            contender.stop()


def _measure(row: Row, turn: Turn) -> list[Result]:
    name = turn.contender.name
    try:
        if isinstance(turn.contender, RawDrives) and row.name != "lose_two":
            found = {row.name: turn.contender.figure(row.name, turn.mib, turn.files)}
        else:
            found = row.figures(turn)
    except Unsupported:
        raise  # said by the caller, for the rows behind it too
    except Exception as error:  # a contender that fails is a finding: the others go on
        return [{"row": row.name, "contender": name, "error": repr(error)[:300]}]
    return [{"row": part, "contender": name, "value": value, "unit": row.unit} for part, value in found.items()]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", default="", help="comma-separated; all by default:\n" + ", ".join(ROWS))
    parser.add_argument("--contenders", default="", help=f"comma-separated: {', '.join(CONTENDERS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mib", type=int, default=256, help="size of the large file")
    parser.add_argument("--files", type=int, default=3000, help="number of small files")
    parser.add_argument("--drive-mib", type=int, default=640, help="size of each of the six drives, in RAM")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "benchmarks.jsonl")
    parser.add_argument("--fresh", action="store_true", help="forget the results that are there")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "BENCHMARKS.md", help="gets the table")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "benchmarks.png")
    options = parser.parse_args()
    options.rows = options.rows.split(",") if options.rows else list(ROWS)
    options.contenders = options.contenders.split(",") if options.contenders else list(DEFAULT)
    for name in [*options.rows, *options.contenders]:
        if name not in ROWS and name not in CONTENDERS:
            parser.error(f"there is no {name}; rows: {', '.join(ROWS)}; contenders: {', '.join(CONTENDERS)}")
    return options


def _shown(result: Result) -> str:
    return f"{result['error']}" if "error" in result else f"{result['value']:,.4g} {result['unit']}"


def main() -> None:
    options = _options()
    if os.geteuid():
        sys.exit("benchmarks: run it as root: it mounts loop devices and drops the kernel's caches")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unmount and free the RAM when told to end
    options.results.parent.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        options.results.unlink(missing_ok=True)
    rows = with_needed(options.rows)
    kinds = [CONTENDERS[name] for name in options.contenders]
    for kind in kinds:
        if not kind.is_installed():
            print(f"{kind.name}: left out, not installed ({', '.join(kind.needs)})", file=sys.stderr)
    for number in range(options.rounds):
        for kind in filter(lambda kind: kind.is_installed(), kinds):
            print(f"round {number + 1}: {kind.name}", file=sys.stderr)
            with closing(take_turn(kind, rows, options)) as results, options.results.open("a") as file:
                for result in results:
                    file.write(json.dumps(result) + "\n")
                    file.flush()
                    print(f"  {result['row']}: {_shown(result)}", file=sys.stderr)
    values, units = load(options.results)
    text = table(values, units)
    print(text)
    try:
        put_into(options.document, text)
        plot(values, units, options.plot)
    except LeftOut as why:
        print(why, file=sys.stderr)


if __name__ == "__main__":
    main()
