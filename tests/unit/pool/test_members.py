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


def late(members: Members, times: int, slot: int = 1) -> None:
    for _ in range(times):
        members.drive_failed(slot, DriveTimeoutError("no answer", slot=slot))


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


def test_a_third_drive_that_is_late_stays_however_often(members: Members) -> None:
    """R5: a slow node must stall a program, not turn the pool read-only."""
    for slot in (4, 5):
        members.take_down(slot, "absent", "killed")
    late(members, 10 * MISSES_BEFORE_DOWN)
    assert members[1].up
    members.drive_failed(1, DriveUnreachableError("gone", slot=1))
    assert not members[1].up


def test_two_drives_that_are_late_may_leave_and_a_third_may_not(members: Members) -> None:
    for slot in (0, 1, 2):
        late(members, MISSES_BEFORE_DOWN, slot)
    assert [member.slot for member in members.leaving()] == [0, 1]


def test_chores_that_are_late_take_no_drive_down(members: Members) -> None:
    """Nothing that is answered in between would end the row: over a day any drive would have missed three."""
    for _ in range(10 * MISSES_BEFORE_DOWN):
        members.chore_failed(1, DriveTimeoutError("no answer", slot=1))
    assert members[1].up
    members.chore_failed(1, DriveUnreachableError("gone", slot=1))
    assert not members[1].up


def test_a_drive_that_is_gone_is_down_at_once(members: Members) -> None:
    members.drive_failed(1, DriveUnreachableError("gone", slot=1))
    assert (members[1].up, members[1].state) == (False, "absent")


async def test_events_are_numbered_and_told_to_everybody_and_only_the_newest_are_kept() -> None:
    members = Members(SystemClock(), [Member(0, "/d0")], need=1, m=0)
    heard: list[int] = []
    members.listeners.append(lambda event: heard.append(event.number))
    for number in range(1500):
        members.note(None, "odd" if number % 2 else "even", "x")
    assert heard == list(range(1, 1501))
    assert [event.number for event in members.events] == list(range(501, 1501))
    assert members.event_kinds == {"odd": 750, "even": 750}
