"""The clock of the other tests here."""

from __future__ import annotations

import trio
from trio.testing import MockClock


async def test_an_hour_here_is_over_at_once():
    assert isinstance(trio.lowlevel.current_clock(), MockClock)
    await trio.sleep(3600)


async def test_a_clock_that_a_test_asks_for_is_the_one_it_runs_on(autojump_clock):
    assert trio.lowlevel.current_clock() is autojump_clock
