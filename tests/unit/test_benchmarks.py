"""The benchmarks' own arithmetic; what they measure is measured by hand."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.contenders import ROOT
from benchmarks.report import BEGIN, END, LeftOut, load, plot, put_into, table
from benchmarks.rows import ROWS, with_needed


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results"
    lines: list[dict[str, object]]
    lines = [{"row": "untar", "contender": "ecfs", "value": value, "unit": "entries/s"} for value in (300, 100, 200)]
    lines += [{"row": "untar", "contender": "bindfs", "value": 0.5, "unit": "entries/s"}]
    lines += [{"row": "scrub", "contender": "ecfs", "error": "no drives"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_table_shows_median_and_spread_and_leaves_errors_out(results: Path) -> None:
    assert table(*load(results)).splitlines() == [
        "| row | ecfs | bindfs |",
        "|---|--:|--:|",
        "| untar entries/s | 200 (100–300) | 0.5 |",
    ]


def test_table_takes_the_place_of_the_last_one_and_of_nothing_else(tmp_path: Path) -> None:
    document = tmp_path / "document"
    document.write_text(f"before\n{BEGIN}\n\n{END}\nbehind\n")
    put_into(document, "| row | ecfs |\n| old | 1 |\n")
    put_into(document, "| row | ecfs | bindfs |\n| new | 1 | 2 |\n")
    assert document.read_text() == f"before\n{BEGIN}\n\n| row | ecfs | bindfs |\n| new | 1 | 2 |\n\n{END}\nbehind\n"


def test_a_table_of_fewer_contenders_takes_the_place_of_none(tmp_path: Path) -> None:
    """Whoever looks at one of them must not wipe out the comparison."""
    document = tmp_path / "document"
    document.write_text(f"{BEGIN}\n| row | ecfs | bindfs | raw drives |\n{END}")
    with pytest.raises(LeftOut, match="compares with bindfs, raw drives, too"):
        put_into(document, "| row | ecfs |\n")
    assert "| row | ecfs | bindfs | raw drives |" in document.read_text()


def test_the_document_has_a_place_for_the_table() -> None:
    text = (ROOT / "docs" / "BENCHMARKS.md").read_text()
    assert text.index(BEGIN) < text.index(END)


def test_a_document_without_a_place_for_the_table_is_left_as_it_is(tmp_path: Path) -> None:
    document = tmp_path / "document"
    with pytest.raises(LeftOut, match="No such file"):
        put_into(document, "| new |\n")
    document.write_text(f"{END} before {BEGIN}")
    with pytest.raises(LeftOut, match="has no line"):
        put_into(document, "| new |\n")
    assert document.read_text() == f"{END} before {BEGIN}"


def test_plot_is_an_image_or_one_line_says_what_is_missing(results: Path, tmp_path: Path) -> None:
    if find_spec("matplotlib") is None:  # only `make bench` installs it
        with pytest.raises(LeftOut, match="matplotlib is not installed"):
            plot(*load(results), tmp_path / "plot.png")
    else:
        plot(*load(results), tmp_path / "plot.png")
        assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_row_brings_those_it_needs_before_it() -> None:
    assert [row.name for row in with_needed(["rebuild", "seq_read_cold"])] == [
        "seq_write",
        "seq_read_cold",
        "lose_two",
        "rebuild",
    ]


def test_a_row_needs_only_rows_above_it() -> None:
    seen: set[str] = set()
    for row in ROWS.values():
        assert seen.issuperset(row.after), row.name
        seen.add(row.name)


def test_an_unknown_row_is_refused_with_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "--rows", "seq_wirte"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert "there is no seq_wirte; rows: seq_write" in capsys.readouterr().err
