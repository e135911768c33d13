"""The drive table in memory: when a drive that does not answer counts as gone."""

from __future__ import annotations

import pytest

from ecfs.clock import SystemClock
from ecfs.errors import DriveTimeoutError, DriveUnreachableError
from ecfs.pool.members import MISSES_BEFORE_DOWN, Member, Members


@pytest.fixture
def members() -> Members:
    table = [Member(slot, f"d{slot}", up=True, in_w=True, state="online") for slot in range(6)]
    return Members(SystemClock(), table, need=4, m=2)


def late(members: Members, times: int) -> None:
    for _ in range(times):
        members.drive_failed(1, DriveTimeoutError("no answer", slot=1))


def test_a_drive_that_is_late_several_times_in_a_row_is_down(members: Members) -> None:
    late(members, MISSES_BEFORE_DOWN - 1)
    assert not members.leaving()
    late(members, 1)
    assert members.leaving() == [members[1]]
    assert "3 times in a row" in members[1].reason


def test_reads_that_are_late_now_and_then_take_no_drive_down(members: Members) -> None:
    for _ in range(10):
        late(members, MISSES_BEFORE_DOWN - 1)
        members.drive_answered(1)
    assert members[1].up
    assert members[1].errors == {"DriveTimeout": 20}


def test_a_drive_that_is_gone_is_down_at_once(members: Members) -> None:
    members.drive_failed(1, DriveUnreachableError("gone", slot=1))
    assert (members[1].up, members[1].state) == (False, "absent")
