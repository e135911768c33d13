"""How long a program waits for the compactor."""

from __future__ import annotations

import pytest
import trio

from ecfs.commit.backlog import LONGEST_S, Backlog


async def waited(backlog: Backlog, size: int) -> float:
    start = trio.current_time()
    await backlog.wait_turn(size)
    return trio.current_time() - start


async def test_nobody_waits_below_the_bound(autojump_clock: object) -> None:
    backlog = Backlog()
    assert await waited(backlog, 1 << 40) == 0
    backlog.measured(100, 100)
    assert await waited(backlog, 1 << 40) == 0


async def test_above_it_half_of_what_is_won_back_may_be_written(autojump_clock: object) -> None:
    backlog = Backlog()
    backlog.measured(1000, 100)
    assert await waited(backlog, 50) == pytest.approx(LONGEST_S)
    backlog.measured(850, 100)  # 200 were won, since 50 were written; of them 100, less the 50, may be
    assert await waited(backlog, 50) == 0
    assert await waited(backlog, 1) == pytest.approx(LONGEST_S)


async def test_who_waits_goes_on_as_soon_as_something_is_won_back(autojump_clock: object) -> None:
    backlog = Backlog()
    backlog.measured(1000, 100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waited, backlog, 10)
        await trio.sleep(LONGEST_S / 4)
        backlog.measured(900, 100)
        start = trio.current_time()
    assert trio.current_time() == start


async def test_nobody_waits_for_a_compactor_that_has_nothing_to_do(autojump_clock: object) -> None:
    backlog = Backlog()
    backlog.measured(1000, 100)
    backlog.forget()
    assert await waited(backlog, 1 << 40) == 0
