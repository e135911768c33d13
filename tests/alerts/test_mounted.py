"""The command on a real mount: a deleted drive, a command that fails meanwhile, a daemon that is killed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mount.real import Pool, mounted_pool

pytestmark = pytest.mark.mount


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    """Its command appends what it gets to ./told, and fails while ./broken is there."""
    with mounted_pool(tmp_path) as made:
        made.umount()
        hook = tmp_path / "hook"
        hook.write_text(f'#!/bin/sh\n[ -e {tmp_path}/broken ] && exit 1\n'
                        f'cat >> {tmp_path}/told; echo >> {tmp_path}/told\n')  # fmt: skip
        hook.chmod(0o755)
        with (tmp_path / "drives" / "pool.toml").open("a") as file:
            file.write(f'\n[alerts]\non_event = "{hook}"\n')
        made.mount()
        yield made


def told(pool: Pool) -> list[dict[str, Any]]:
    path = pool.place.path / "told"
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.exists() else []


def wait_for(pool: Pool, kind: str, number: int = 1) -> list[dict[str, Any]]:
    end = time.monotonic() + 60
    while len(found := [fact for fact in told(pool) if fact["kind"] == kind]) < number:
        assert time.monotonic() < end, f"{told(pool)}\n{pool.place.logs()}"
        time.sleep(0.05)
    return found


def test_a_deleted_drive_is_told_once_with_what_to_do(pool: Pool) -> None:
    pool.lose(3)
    (fact,) = wait_for(pool, "absent")
    assert fact["slot"] == 3
    assert fact["state"] == "degraded"
    assert any("ecfs scrub" in action for action in fact["actions"])
    assert fact["mountpoint"] == str(pool.mnt)
    pool.ecfs("scrub", "mnt", "--no-progress")
    wait_for(pool, "online")
    pool.remount()
    time.sleep(1)
    assert [fact["kind"] for fact in told(pool)].count("absent") == 1


def test_nothing_is_lost_while_it_fails_nor_by_a_kill(pool: Pool) -> None:
    (pool.place.path / "broken").touch()
    pool.lose(1)
    end = time.monotonic() + 60
    while "events wait" not in pool.place.logs():
        assert time.monotonic() < end, pool.place.logs()
        time.sleep(0.05)
    pool.lose(2)
    time.sleep(4)
    assert "absent" not in [fact["kind"] for fact in told(pool)]
    pool.kill()
    (pool.place.path / "broken").unlink()
    pool.mount()
    facts = wait_for(pool, "absent", 2)
    time.sleep(1)
    assert sorted(fact["slot"] for fact in facts) == [1, 2]
    assert len({fact["id"] for fact in told(pool)}) == len(told(pool))


def test_it_is_tried_out_by_hand_mounted_or_not(pool: Pool) -> None:
    assert "succeeded" in pool.ecfs("alert-test", "mnt")
    (fact,) = wait_for(pool, "test")
    assert (fact["id"], fact["state"]) == ("test", "healthy")
    (pool.place.path / "broken").touch()
    assert "exit status 1" in pool.ecfs("alert-test", "drives", status=1)
    pool.umount()
    assert "exit status 1" in pool.ecfs("alert-test", "drives", status=1)
    (pool.place.path / "broken").unlink()
    assert "succeeded" in pool.ecfs("alert-test", "drives")


def test_a_command_that_others_could_have_written_is_not_run(pool: Pool) -> None:
    pool.umount()
    before = told(pool)
    (pool.place.path / "drives" / "pool.toml").chmod(0o666)
    assert "others can write" in pool.ecfs("mount", "drives", "mnt")
    pool.lose(0)
    time.sleep(3)
    assert told(pool) == before
    assert "without [alerts]" in pool.ecfs("alert-test", "mnt", status=2)
    assert "others can write" in pool.ecfs("events", "mnt")
