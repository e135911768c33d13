"""What an operator does on a real mount: pausing scrubs, looking at one file, asking what happened."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.mount.made_of import DIRECTORIES
from tests.mount.real import Pool

pytestmark = [pytest.mark.mount, pytest.mark.timeout(300)]


def status(pool: Pool) -> dict[str, Any]:
    found = json.loads(pool.ecfs("status", "mnt", "--json", status=None))
    assert isinstance(found, dict)
    return found


def until(pool: Pool, true: Callable[[dict[str, Any]], bool], seconds: float = 90) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while not true(found := status(pool)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert true(found), found
    return found


def test_a_scrub_is_paused_survives_a_remount_and_is_resumed(pool: Pool) -> None:
    (pool.mnt / "large").write_bytes(os.urandom(64 << 20))
    pool.ecfs("sync", "mnt")
    scrub = pool.place.start("scrub", "mnt", "--rate", "1M", "--no-progress")
    until(pool, lambda found: bool(found["scrub"]["running"]))
    assert "The scrub is paused." in pool.ecfs("scrub", "--pause", "mnt")
    out, err = scrub.communicate(timeout=60)
    assert scrub.returncode == 2
    assert "to go on from there: ecfs scrub --resume" in out + err
    assert status(pool)["scrub"]["paused"]
    assert "no scrub is running" in pool.ecfs("scrub", "--pause", "mnt", status=2)
    pool.remount()
    assert status(pool)["scrub"]["paused"]
    assert "one is paused" in pool.ecfs("status", "mnt")
    pool.ecfs("scrub", "--resume", "mnt")
    assert status(pool)["scrub"]["running"]
    pool.ecfs("scrub", "mnt", "--rate", "1G", "--no-progress")  # hurries the one that runs, and waits for it
    found = until(pool, lambda found: not found["scrub"]["running"])["scrub"]
    assert found["last_finished"] is not None
    assert not found["paused"]


def test_an_unmount_interrupts_a_scrub_and_the_next_mount_goes_on(pool: Pool) -> None:
    (pool.mnt / "large").write_bytes(os.urandom(64 << 20))
    pool.ecfs("sync", "mnt")
    scrub = pool.place.start("scrub", "mnt", "--rate", "1M", "--no-progress")
    until(pool, lambda found: bool(found["scrub"]["running"]))
    pool.remount()
    scrub.communicate(timeout=60)
    assert status(pool)["scrub"]["running"]
    assert "The scrub is cancelled" in pool.ecfs("scrub", "--cancel", "mnt")
    found = status(pool)["scrub"]
    assert (found["running"], found["paused"], found["interrupted"]) == (False, False, False)
    assert "no scrub was paused or interrupted" in pool.ecfs("scrub", "--resume", "mnt", status=2)


def test_one_file(pool: Pool) -> None:
    file = pool.mnt / "a directory" / "file"
    file.parent.mkdir()
    file.write_bytes(os.urandom(1 << 20))
    os.setxattr(file, "user.mine", b"1")
    pool.ecfs("sync", "mnt")
    health = os.getxattr(file, "user.ecfs.health").decode()
    assert health == "healthy: 1 stripe (1 with 6 of 6 shards); 2 more drives may be lost"
    assert os.listxattr(file) == ["user.mine"]
    name = "user.ecfs.health"
    for change in (lambda: os.setxattr(file, name, b"fine"), lambda: os.removexattr(file, name)):
        with pytest.raises(PermissionError):
            change()
    pool.lose(0, 3)
    until(pool, lambda found: found["may_lose"] == 0)
    said = pool.ecfs("status", file, status=1)
    assert "degraded: 1 stripe (1 with 4 of 6 shards); 0 more drives may be lost" in said
    found = json.loads(pool.ecfs("status", file, "--json", status=1))
    assert found["stripes"]["with_shards"] == {"4": 1}
    assert found["lacking"][0]["slots"] == [0, 3]
    assert "state:" in pool.ecfs("status", file.parent, status=1)  # a directory is the whole pool
    assert "no such file" in pool.ecfs("status", pool.mnt / "nowhere", status=2)


def test_events_are_told_mounted_or_not(pool: Pool) -> None:
    pool.lose(2)
    until(pool, lambda found: found["state"] == "degraded")
    pool.ecfs("scrub", "mnt", "--no-progress")
    told = pool.ecfs("events", "mnt")
    assert "drive 2   absent      online → absent" in told
    assert "scrub       finished: 1 found wrong, 1 repaired, 0 lost" in told
    follower = pool.place.start("events", "mnt", "--follow", "--json", "--limit", "1")
    assert follower.stdout is not None
    before = json.loads(follower.stdout.readline())
    pool.lose(4)
    after = json.loads(follower.stdout.readline())
    assert (after["slot"], after["kind"]) == (4, "absent")
    assert after["number"] > before["number"]
    follower.kill()
    follower.communicate()
    pool.umount()
    lines = [json.loads(line) for line in pool.ecfs("events", "drives", "--json").splitlines()]
    assert [line["number"] for line in lines] == sorted(line["number"] for line in lines)
    assert {"opened", "absent", "scrub", "closed"} <= {line["kind"] for line in lines}
    pool.mount()
    assert json.loads(pool.ecfs("events", "mnt", "--json").splitlines()[-1])["number"] > lines[-1]["number"]


def test_what_drives_share_is_shown_at_mount_and_in_status(pool: Pool, made_of: str) -> None:
    shared = "share one disk" if made_of == DIRECTORIES else "share one host"
    found = until(pool, lambda found: bool(found["risks"]))
    assert any(shared in risk for risk in found["risks"])
    pool.umount()
    assert shared in pool.ecfs("mount", "drives", "mnt")
    assert "risk:" in pool.ecfs("status", "mnt")
