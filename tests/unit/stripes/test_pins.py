"""Deletion waits for the last pin (R13)."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ecfs.stripes.pins import Pins


async def test_free_stripes_are_not_waited_for():
    pins = Pins()
    with trio.fail_after(0):
        await pins.wait_unpinned(1)


async def test_deletion_waits_for_the_last_of_several_pins(autojump_clock):
    pins = Pins()
    freed: list[float] = []

    async def hold(seconds: float) -> None:
        with pins.pin(1):
            await trio.sleep(seconds)

    async def delete() -> None:
        await pins.wait_unpinned(1)
        freed.append(trio.current_time() - start)

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for seconds in (1, 5, 3):
            nursery.start_soon(hold, seconds)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(2):
            nursery.start_soon(delete)
    assert freed == [5, 5]
    assert not pins.is_pinned(1)
    assert not pins._waiting


async def test_a_pin_of_another_stripe_does_not_matter():
    pins = Pins()
    with pins.pin(2), trio.fail_after(0):
        await pins.wait_unpinned(1)
    assert not pins._counts


async def test_who_pins_between_release_and_wake_up_is_waited_for(autojump_clock):
    pins = Pins()
    async with trio.open_nursery() as nursery:
        first = pins.pin(1)
        first.__enter__()
        nursery.start_soon(pins.wait_unpinned, 1)
        await trio.testing.wait_all_tasks_blocked()
        first.__exit__(None, None, None)
        with pins.pin(1):
            await trio.sleep(1)
            assert nursery.child_tasks, "returned although the stripe is pinned"


def test_a_pin_is_released_when_its_user_fails():
    pins = Pins()
    with pytest.raises(ZeroDivisionError), pins.pin(1):
        raise ZeroDivisionError
    assert not pins.is_pinned(1)


def test_pins_nest():
    pins = Pins()
    with pins.pin(1):
        with pins.pin(1):
            pass
        assert pins.is_pinned(1)
    assert not pins.is_pinned(1)
