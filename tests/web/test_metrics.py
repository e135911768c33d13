"""/metrics: conventional, bounded, and everything that documents, dashboard and alerts name is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from ecfs.clock import SystemClock
from ecfs.drive.health import HealthDrive
from ecfs.web.metrics import OPERATIONS
from tests.unit.commit.test_engine import data, make_file, write
from tests.web.served import Page

ROOT = Path(__file__).parents[2]
RULES = ROOT / "packaging" / "prometheus" / "ecfs.rules.yml"
NAME = re.compile(r"\b(?:ecfs|process)_[a-z_]+[a-z]\b")
SUFFIXES = ("_bucket", "_sum", "_count")


async def text_of(page: Page) -> str:
    """Of a pool on which everything has happened once."""
    pool = page.engine.pool
    for member in pool.members:
        assert member.drive is not None
        member.drive = HealthDrive(member.drive, SystemClock())
        for operation in (*OPERATIONS, "alive", "space"):
            member.drive.health.answered(operation, 0.003)
        member.errors["DriveTimeout"] = 1
    pool.members.note(None, "stalled", "x")
    page.failures[5] = 2
    page.requests["read"] = page.engine.commit_time
    await page.engine.sync()
    page.engine.commit_time.add(0.01)
    return (await page.ask("/metrics")).body.decode()


def known(text: str) -> set[str]:
    """Families, samples or not: what has not happened yet has a name all the same."""
    return set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


def family(name: str) -> str:
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name


async def test_it_is_what_prometheus_reads(page: Page) -> None:
    text = await text_of(page)
    families = {each.name: each for each in text_string_to_metric_families(text)}
    reads = [each for each in families["ecfs_drive_operation_seconds"].samples if each.labels.get("slot") == "3"]
    assert {each.labels["operation"] for each in reads} == {*OPERATIONS, "other"}
    (counted,) = [each for each in reads if each.name.endswith("_count") and each.labels["operation"] == "other"]
    assert counted.value == 2
    by_edge = {
        each.labels["le"]: each.value for each in reads if each.labels["operation"] == "read" and "le" in each.labels
    }
    assert (by_edge["0.001024"], by_edge["0.004096"], by_edge["+Inf"]) == (0, 1, 1)
    failures = {each.labels["errno"]: each.value for each in families["ecfs_request_failures"].samples}
    assert failures == {"EIO": 2, "ENOSPC": 0, "EROFS": 0}
    states = {each.labels["state"]: each.value for each in families["ecfs_pool_state"].samples}
    assert states == {"healthy": 1, "degraded": 0, "failed": 0}


async def test_the_number_of_series_has_a_bound(page: Page) -> None:
    text = await text_of(page)
    assert len([line for line in text.splitlines() if not line.startswith("#")]) < 1000
    for number in range(100):
        page.engine.pool.members.note(number % 6, "absent", f"text {number}")
    again = (await page.ask("/metrics")).body.decode()
    assert len(again.splitlines()) <= len(text.splitlines()) + 2


async def test_what_is_written_anew_to_win_back_space_is_counted_apart_from_what_programs_wrote(page: Page) -> None:
    engine = page.engine
    await make_file(engine)
    await write(engine, 0, data(400_000))
    await engine.sync()
    await write(engine, 0, data(300_000, 2))
    await engine.sync()
    assert await values(page, "ecfs_written_bytes", "ecfs_compacted_bytes") == [700_000, 0]
    assert await engine.compactor.compact_once()
    assert await values(page, "ecfs_written_bytes", "ecfs_compacted_bytes") == [700_000, 100_000]


async def values(page: Page, *names: str) -> list[float]:
    text = (await page.ask("/metrics")).body.decode()
    families = {each.name: each for each in text_string_to_metric_families(text)}
    return [families[name].samples[0].value for name in names]


async def test_promtool_finds_nothing_to_complain_about(page: Page) -> None:
    text = (await text_of(page)).encode()
    checked = await trio.run_process([promtool(), "check", "metrics"], stdin=text, capture_stderr=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")


async def test_whatever_is_named_somewhere_is_there_and_whatever_is_there_is_documented(page: Page) -> None:
    there = known(await text_of(page))
    documented = set(NAME.findall((ROOT / "docs" / "METRICS.md").read_text()))
    ours = {name for name in there if name.startswith("ecfs_")}
    assert documented == ours
    queries = [line.partition("expr:")[2] for line in RULES.read_text().splitlines() if "expr:" in line]
    board = json.loads((ROOT / "packaging" / "grafana" / "ecfs.json").read_text())
    queries += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(queries) > 30
    for query in queries:
        for name in NAME.findall(query):
            assert family(name) in there, query


def test_panels_have_a_place_of_their_own() -> None:
    board: dict[str, Any] = json.loads((ROOT / "packaging" / "grafana" / "ecfs.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_each_alert_is_raised_by_what_it_is_for() -> None:
    for command in (["check", "rules", "--lint-fatal", str(RULES)], ["test", "rules", "ecfs.rules.test.yml"]):
        done = subprocess.run(
            [promtool(), *command], cwd=RULES.parent, text=True, capture_output=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    tested = set(re.findall(r"alertname: (\w+)\s+exp_alerts:\s+-", (RULES.parent / "ecfs.rules.test.yml").read_text()))
    assert tested == set(re.findall(r"alert: (\w+)", RULES.read_text()))


def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("needs the Debian package prometheus")
    return found
