"""The status of every state of a pool, as data and in words: what would a tired person do after reading it?"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from ecfs.control.status import Healing, build_status, failed_status, seen_drive, state_of
from ecfs.control.verdict import exit_status, verdict
from ecfs.heal.report import ScrubProgress
from tests.memory_pool import MemoryPool

HEALTHY: dict[str, Any] = {
    "schema": 1,
    "state": "healthy",
    "pool": {"id": "ab" * 16, "data": 4, "parity": 2, "mountpoint": "/mnt/pool"},
    "drives": [
        {"slot": slot, "url": f"/d{slot}", "state": "online", "usable": True, "reason": "", "since": 1, "errors": {}}
        for slot in range(6)
    ],
    "stripes": {"total": 9, "full": 9, "missing": 0, "unknown": 0, "lost": 0},
    "may_lose": 2,
    "capacity": {"total": 100, "used": 10, "free": 90, "files": 3},
    "scrub": {"running": False, "progress": None, "last_finished": 5, "checked": 9, "repaired": 0, "lost": 0},
    "repairs": {"done": 0, "waiting": 0, "undecodable": 0},
    "commits": {"last": 5, "stalled": "", "stalled_since": None, "fenced": ""},
    "notes": [],
}


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    """HEALTHY with members set, by paths such as "stripes.missing"; the state follows."""
    status = copy.deepcopy(HEALTHY)
    for path, value in changes:
        *way, last = path.split(".")
        place: Any = status
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        place[int(last) if isinstance(place, list) else last] = value
    status["state"] = state_of(status)
    return status


def away(slot: int, state: str = "absent", reason: str = "there is no directory") -> list[tuple[str, Any]]:
    return [(f"drives.{slot}.{key}", value) for key, value in (("state", state), ("reason", reason), ("usable", False))]


WORDS = {
    "healthy": (changed(), 0, "any 2 drives may be lost", "", "nothing to do"),
    "one absent": (
        changed(*away(3), ("may_lose", 1), ("stripes.full", 0), ("stripes.missing", 9)),
        1,
        "1 more drive may be lost",
        "drive 3 is absent: there is no directory",
        "rebuild it on a new disk: ecfs replace POOL 3 NEW_DIRECTORY",
    ),
    "two absent": (
        changed(*away(0), *away(3), ("may_lose", 0)),
        1,
        "losing one more drive would lose data",
        "drive 0 is absent",
        "bring drives 0 and 3 back",
    ),
    "wrong drive": (
        changed(*away(1, "wrong", "belongs to another pool"), ("may_lose", 1)),
        1,
        "1 more drive may be lost",
        "drive 1 is wrong: belongs to another pool",
        "put the right drive 1 there",
    ),
    "unmounted disk": (
        changed(*away(1, "absent", "empty: is its disk mounted?"), ("may_lose", 1)),
        1,
        "1 more drive may be lost",
        "empty: is its disk mounted?",
        "plug in, mount or switch on",
    ),
    "behind": (
        changed(("drives.2.state", "behind"), ("stripes.full", 5), ("stripes.missing", 4), ("may_lose", 1)),
        1,
        "1 more drive may be lost",
        "4 of 9 stripes lack at least one shard",
        "nothing: it is being rebuilt now",
    ),
    "stripes lack shards": (
        changed(("stripes.full", 5), ("stripes.missing", 4), ("may_lose", 1)),
        1,
        "1 more drive may be lost",
        "4 of 9 stripes lack at least one shard",
        "rebuild what is missing: ecfs scrub POOL",
    ),
    "unknown": (
        changed(("stripes.full", 5), ("stripes.unknown", 4), ("may_lose", 1)),
        1,
        "redundancy is missing",
        "4 of 9 stripes have shards that must be verified first",
        "ecfs scrub POOL",
    ),
    "found bad by a read": (
        changed(("repairs.waiting", 1)),
        1,
        "redundancy is missing",
        "1 shard found bad by reading, about to be repaired",
        "ecfs scrub POOL",
    ),
    "failed": (
        changed(*away(0), *away(1), *away(2), ("stripes.lost", 9), ("stripes.full", 0), ("may_lose", 0)),
        3,
        "3 of 6 drives are there, 4 are needed",
        "9 of 9 stripes can't be decoded right now",
        "bring back at least 1 of these drives",
    ),
    "stalled": (
        changed(("commits.stalled", "no space on 3 drives")),
        3,
        "files can be read, but changes are refused",
        "can't be made durable: no space on 3 drives",
        "free space on them",
    ),
    "fenced": (
        changed(("commits.fenced", "epoch 7 belongs to another writer"), ("commits.stalled", "x")),
        3,
        "read-only for good",
        "another process has taken the pool over",
        "ecfs umount --force /mnt/pool",
    ),
    "damaged beyond repair": (
        changed(("repairs.undecodable", 2)),
        3,
        "some data can't be decoded right now",
        "2 stripes could not be decoded when last tried",
        "ecfs scrub --dry-run POOL",
    ),
}
"""What is the matter → the status, its exit status, and what headline, cause and action must say."""


@pytest.mark.parametrize("name", WORDS)
def test_the_words(name: str) -> None:
    status, ends_with, headline, cause, action = WORDS[name]
    said = verdict(status, "POOL")
    assert exit_status(status) == ends_with
    assert headline in said.headline
    assert any(cause in each for each in said.causes) or not cause
    assert any(action in each for each in said.actions)
    assert said.actions  # nobody is left without something to do


def test_a_pool_that_can_not_be_opened_claims_to_know_nothing() -> None:
    drives = [seen_drive(slot, f"/d{slot}", "online" if slot < 3 else "absent", "") for slot in range(6)]
    status = failed_status(4, 2, "ab", drives, ["too few"])
    assert set(status["stripes"].values()) == {None}
    assert (state_of(status), status["may_lose"]) == ("failed", 0)
    assert set(HEALTHY) <= set(status)


async def test_of_a_real_pool(tmp_path: Path) -> None:
    pool = MemoryPool(tmp_path)
    await pool.create()
    async with pool.engine() as engine:
        progress = ScrubProgress(phase="stripes", bytes_done=5)
        healing = Healing(progress, 1, 0, 0)
        status = build_status(engine.pool, usable=engine.usable(), engine=engine, healing=healing)
        assert set(HEALTHY) <= set(status)
        assert status["state"] == "healthy"
        assert status["scrub"]["progress"]["phase"] == "stripes"
        assert status["scrub"]["last_finished"] is None
        assert status["may_lose"] == 2
        engine.pool.members.take_down(2, "absent", "pulled")
        engine.pool.members.take_down(4, "absent", "pulled")
        status = build_status(engine.pool, usable=engine.usable(), engine=engine)
        assert (status["state"], status["may_lose"]) == ("degraded", 0)
        assert status["drives"][2]["reason"] == "pulled"
