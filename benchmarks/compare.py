"""Two checkouts of ecfs in one run, in turn, so that the machine's moods hit both.

    python -m benchmarks.compare BASE --rows seq_write,small_create --rounds 5

BASE is a revision; it is checked out into a worktree below build/ and measured with this checkout's rows and libraries.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing

from benchmarks.__main__ import take_turn
from benchmarks.contenders import ROOT, THIS, Checkout, Contender, Ecfs
from benchmarks.report import cell
from benchmarks.rows import with_needed
from benchmarks.shell import run

Found = dict[str, dict[str, list[float]]]
"""Row → label of the checkout → one figure per round."""
DEFAULT_ROWS = "seq_write,seq_read_cold,rand_write_4k,append_fsync,small_create,small_read_cold,small_delete"


@contextlib.contextmanager
def checked_out(revision: str) -> Iterator[Checkout]:
    """The sources of a revision. Raises RuntimeError if there is no such one."""
    tree = ROOT / "build" / "base"
    run("git", "-C", ROOT, "worktree", "add", "--force", "--detach", tree, revision)
    try:
        yield Checkout(THIS.python, tree)
    finally:
        run("git", "-C", ROOT, "worktree", "remove", "--force", tree)


def contender(checkout: Checkout, label: str) -> type[Contender]:
    return type("Compared", (Ecfs,), {"checkout": checkout, "name": label})


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.compare", description=__doc__)
    parser.add_argument("base")
    parser.add_argument("--rows", default=DEFAULT_ROWS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--drive-mib", type=int, default=640)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows = with_needed(options.rows.split(","))
    values: Found = defaultdict(lambda: defaultdict(list))
    units: dict[str, str] = {}
    with checked_out(options.base) as base, shown_at_the_end(values, units, options.base):
        kinds = [contender(base, "base"), contender(THIS, "this")]
        for number in range(options.rounds):
            # Whoever comes first meets a colder machine: take turns in that, too.
            for kind in kinds if number % 2 == 0 else reversed(kinds):
                with closing(take_turn(kind, rows, options)) as results:
                    for result in results:
                        if "error" in result:
                            print(f"{kind.name}: {result['row']}: {result['error']}", file=sys.stderr)
                        else:
                            values[str(result["row"])][kind.name].append(float(result["value"]))
                            units[str(result["row"])] = str(result["unit"])


@contextlib.contextmanager
def shown_at_the_end(values: Found, units: dict[str, str], base: str) -> Iterator[None]:
    """The table, also of a run that was interrupted."""
    try:
        yield
    finally:
        _print(values, units, base)


def _print(values: Found, units: dict[str, str], base: str) -> None:
    print(f"| row | {base} | this checkout | ratio |\n|---|--:|--:|--:|")
    for row, found in values.items():
        before, after = found["base"], found["this"]
        known = before and after and statistics.median(before)
        ratio = f"{statistics.median(after) / statistics.median(before):.2f}" if known else "–"
        print(f"| {row} {units[row]} | {cell(before)} | {cell(after)} | {ratio} |")


if __name__ == "__main__":
    main()
