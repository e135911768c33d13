"""How long a program waits for the compactor."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ecfs.commit.backlog import AT_ONCE, LONGEST_S, SIZE_OF_LONGEST, Backlog

MIB = 1 << 20


async def write(backlog: Backlog, size: int) -> None:
    await backlog.wait_turn(size)
    backlog.written(size)


async def waited(backlog: Backlog, size: int) -> float:
    start = trio.current_time()
    await write(backlog, size)
    return trio.current_time() - start


async def test_nobody_waits_below_the_bound(autojump_clock: object) -> None:
    backlog = Backlog()
    assert await waited(backlog, 1 << 40) == 0
    backlog.measured(100, 100)
    assert await waited(backlog, 1 << 40) == 0


async def test_nobody_writes_past_the_bound_in_one_go(autojump_clock: object) -> None:
    """Until the next commit nobody measures: 48 MiB of dead bytes became 66 within a second."""
    backlog = Backlog()
    backlog.measured(60 * MIB, 100 * MIB)
    for _ in range(40):
        assert await waited(backlog, MIB) == 0
    assert await waited(backlog, MIB) == pytest.approx(LONGEST_S)


async def test_above_it_half_of_what_is_won_back_may_be_written(autojump_clock: object) -> None:
    backlog = Backlog()
    backlog.measured(100 * MIB, MIB)
    assert await waited(backlog, MIB) == pytest.approx(LONGEST_S)
    backlog.measured(97 * MIB, MIB)  # 4 were won, since 1 was written; of them 2, less that one, may be
    assert await waited(backlog, MIB) == 0
    assert await waited(backlog, MIB) == pytest.approx(LONGEST_S)


async def test_what_is_moved_is_not_won_when_its_old_place_dies(autojump_clock: object) -> None:
    """There twice at first, 8 MiB of live bytes look like 8 MiB more dead ones, and then like 8 MiB won."""
    backlog = Backlog()
    backlog.measured(100 * MIB, MIB)
    backlog.measured(108 * MIB, MIB)
    backlog.measured(98 * MIB, MIB)  # with them 2 MiB of dead ones
    assert await waited(backlog, MIB) == 0
    assert await waited(backlog, MIB) == pytest.approx(LONGEST_S)


async def test_short_writes_wait_for_as_much_less(autojump_clock: object) -> None:
    backlog = Backlog()
    backlog.measured(1000, 100)
    assert await waited(backlog, SIZE_OF_LONGEST // 16) == pytest.approx(LONGEST_S / 16)


async def test_where_many_wait_each_waits_for_as_much_less(autojump_clock: object) -> None:
    """They share the tasks of the mount with those who only look, delete or read."""
    backlog = Backlog()
    backlog.measured(1000, 100)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(4 * AT_ONCE):
            nursery.start_soon(write, backlog, MIB)
            await trio.testing.wait_all_tasks_blocked()
        assert await waited(backlog, MIB) < LONGEST_S / 3.9
        nursery.cancel_scope.cancel()
    assert trio.current_time() - start < LONGEST_S


async def test_who_is_left_after_a_burst_does_not_wait_for_the_debt_of_others(autojump_clock: object) -> None:
    """Each had waited for its second; 1,440 MiB in all held a program that writes 4 KiB at a time for minutes."""
    backlog = Backlog()
    dead = 10 << 30
    backlog.measured(dead, 1 << 30)
    for _ in range(60):
        async with trio.open_nursery() as nursery:
            for _ in range(32):
                nursery.start_soon(write, backlog, MIB)
        dead += 24 * MIB
        backlog.measured(dead, 1 << 30)
    backlog.measured(dead - 4 * MIB, 1 << 30)
    assert await waited(backlog, 4096) == 0


async def test_writes_that_were_given_up_are_not_counted(autojump_clock: object) -> None:
    backlog = Backlog()
    backlog.measured(100 * MIB, MIB)
    with trio.move_on_after(LONGEST_S / 2):
        await write(backlog, 64 * MIB)
    backlog.measured(98 * MIB, MIB)
    assert await waited(backlog, MIB) == 0


async def test_who_waits_goes_on_as_soon_as_something_is_won_back(autojump_clock: object) -> None:
    backlog = Backlog()
    backlog.measured(1000, 100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waited, backlog, SIZE_OF_LONGEST)
        await trio.sleep(LONGEST_S / 4)
        backlog.measured(900, 100)
        start = trio.current_time()
    assert trio.current_time() == start


async def test_nobody_waits_for_a_compactor_that_has_nothing_to_do(autojump_clock: object) -> None:
    backlog = Backlog()
    backlog.measured(1000, 100)
    backlog.forget()
    assert await waited(backlog, 1 << 40) == 0
