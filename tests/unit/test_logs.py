"""Lines of the log, as files, journald and programs read them."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecfs.mount import background
from ecfs.mount.background import log_to


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def log_a_failure() -> None:
    try:
        raise ValueError("a\nb")
    except ValueError:
        logging.getLogger("ecfs.heal.watch").exception("drive %d: \N{BLACK STAR}", 3)


def test_a_line_has_time_level_and_origin(capsys: pytest.CaptureFixture[str]) -> None:
    log_to(None)
    logging.getLogger("ecfs.heal.watch").warning("drive 3: away")
    logging.getLogger("ecfs.heal.watch").debug("not of interest")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING ecfs\.heal\.watch: drive 3: away\n", capsys.readouterr().err
    )


def test_json_is_one_object_per_line_even_with_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECFS_LOG", "json")
    log_to(None)
    log_a_failure()
    logging.getLogger("ecfs").info("\x00\x1b[31m\n")
    failure, odd = map(json.loads, capsys.readouterr().err.splitlines())
    assert failure.pop("error").endswith("ValueError: a\nb")
    assert isinstance(failure.pop("at"), float)
    assert failure == {"level": "error", "from": "ecfs.heal.watch", "text": "drive 3: \N{BLACK STAR}"}
    assert odd["text"] == "\x00\x1b[31m\n"
    assert "error" not in odd


def test_journald_gets_a_priority_on_every_line_and_no_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    log_to(None)
    log_a_failure()
    first, *more = capsys.readouterr().err.splitlines()
    assert first == "<3>ecfs.heal.watch: drive 3: \N{BLACK STAR}"
    assert more[-2:] == ["<3>ValueError: a", "<3>b"]
    assert all(line.startswith("<3>") for line in more)


def test_a_stream_that_only_once_was_journalds_gets_times(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")  # inherited, and redirected since
    log_to(None)
    logging.getLogger("ecfs").info("x")
    assert re.match(r"\d{4}-", capsys.readouterr().err)


def test_a_file_has_a_bound_and_one_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "LOG_BYTES", 1000)
    log_to(tmp_path / "pool.log")
    for number in range(100):
        logging.getLogger("ecfs").info("line %d", number)
    (handler,) = logging.getLogger().handlers
    handler.close()
    assert {path.name for path in tmp_path.iterdir()} == {"pool.log", "pool.log.1"}
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert "line 99" in (tmp_path / "pool.log").read_text()
