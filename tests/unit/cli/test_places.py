"""Where drives are, as the pool file says now. Asked all the time while one is away: it is read when it changed."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ecfs.mount import places
from ecfs.mount.places import Places
from ecfs.pool.poolfile import PoolFile, read_pool_file
from tests.unit.cli.conftest import Run


@pytest.fixture
def file(here: Path) -> PoolFile:
    return read_pool_file(here / "drives" / "pool.toml")


def test_the_pool_file_is_parsed_again_only_when_it_changed(file: PoolFile, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []

    def counted(path: Path) -> PoolFile:
        parsed.append(path)
        return read_pool_file(path)

    monkeypatch.setattr(places, "read_pool_file", counted)
    known = Places(file)
    before = known()
    assert [known() for _ in range(10)] == [before] * 10
    assert len(parsed) == 1
    file.path.write_text(file.path.read_text().replace('"d3"', '"elsewhere"'))
    assert known() == [*before[:3], str(file.path.parent / "elsewhere"), *before[4:]]
    assert len(parsed) == 2


def test_a_pool_file_that_is_gone_or_broken_is_as_it_was_until_it_is_back(file: PoolFile) -> None:
    text, known = file.path.read_text(), Places(file)
    before = known()
    file.path.write_text("[pool")
    assert known() == before
    file.path.unlink()
    assert known() == before
    file.path.write_text(text.replace('"d0"', '"new"'))
    assert known() == [str(file.path.parent / "new"), *before[1:]]


def test_a_pool_file_behind_a_link_stays_there_and_keeps_its_mode(here: Path, run: Run) -> None:
    kept, link = here / "etc" / "kept.toml", here / "linked.toml"
    kept.parent.mkdir()
    drives = "\n".join(f'[[drive]]\nslot = {slot}\nurl = "{here}/new{slot}"' for slot in range(6))
    kept.write_text(f"[pool]\ndata = 4\nparity = 2\n\n{drives}\n")
    kept.chmod(0o640)
    link.symlink_to(kept)
    assert run("create", link).status == 0
    assert link.is_symlink()
    assert read_pool_file(kept).pool_id
    assert stat.S_IMODE(kept.stat().st_mode) == 0o640
