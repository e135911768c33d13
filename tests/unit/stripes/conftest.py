"""The simulated clock for every test here: how many reads there are depends on who is late, and that on the machine.

A fixture would not do for all tests of a folder: pytest-trio takes a clock only from the arguments of the test itself.
A test that has threads asks for the real one with `pytest.mark.trio(run=trio.run)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
from trio.abc import Clock, Instrument
from trio.testing import MockClock


def run_on_simulated_clock(
    test: Callable[[], Awaitable[object]], *, clock: Clock | None, instruments: Sequence[Instrument]
) -> object:
    """`trio.run`; clock: the one that the test has as an argument."""
    return trio.run(test, clock=clock or MockClock(autojump_threshold=0), instruments=instruments)


def pytest_itemcollected(item: pytest.Item) -> None:
    is_async = isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function)
    if is_async and not any("run" in marker.kwargs for marker in item.iter_markers("trio")):
        item.add_marker(pytest.mark.trio(run=run_on_simulated_clock))
