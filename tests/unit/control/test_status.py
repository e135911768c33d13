"""The status as data. Its words, state by state: tests/golden."""

from __future__ import annotations

from pathlib import Path

from ecfs.control.status import Healing, build_status, failed_status, seen_drive, state_of
from ecfs.heal.report import ScrubProgress
from tests.golden.states import STATES
from tests.memory_pool import MemoryPool


def test_a_pool_that_can_not_be_opened_claims_to_know_nothing() -> None:
    drives = [seen_drive(slot, f"/d{slot}", "online" if slot < 3 else "absent", "") for slot in range(6)]
    status = failed_status(4, 2, "ab", drives, ["too few"])
    assert set(status["stripes"].values()) == {None}
    assert (state_of(status), status["may_lose"]) == ("failed", 0)
    assert set(STATES["healthy"]) <= set(status)


async def test_of_a_real_pool(tmp_path: Path) -> None:
    pool = MemoryPool(tmp_path)
    await pool.create()
    async with pool.engine() as engine:
        progress = ScrubProgress(phase="stripes", bytes_done=5)
        healing = Healing(progress, "scrub", 1)
        status = build_status(engine.pool, usable=engine.usable(), engine=engine, healing=healing)
        assert set(STATES["healthy"]) <= set(status)
        assert status["state"] == "healthy"
        assert status["scrub"]["progress"]["phase"] == "stripes"
        assert status["scrub"]["last_finished"] is None
        assert status["may_lose"] == 2
        assert status["capacity"]["files"] == 0
        engine.pool.members.take_down(2, "absent", "pulled")
        engine.pool.members.take_down(4, "absent", "pulled")
        status = build_status(engine.pool, usable=engine.usable(), engine=engine)
        assert (status["state"], status["may_lose"]) == ("degraded", 0)
        assert status["drives"][2]["reason"] == "pulled"
