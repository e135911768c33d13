"""The stand-in for pyfuse3's trio: quick when there is work, fair to everybody else."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio
import trio.testing

from ecfs.fuse_loop import TURN, TURN_S, PollFirst, QuickLock, stand_in


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


async def test_what_is_readable_is_taken_without_giving_way(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    polling = PollFirst()
    with trio.testing.assert_no_checkpoints():
        await polling.wait_readable(pipe[0])


@pytest.mark.parametrize(("requests", "seconds"), [(TURN * 10, 0.0), (TURN - 1, 2 * TURN_S)])
async def test_other_tasks_run_although_requests_never_end(
    pipe: tuple[int, int], requests: int, seconds: float
) -> None:
    """seconds: for which each request keeps the loop busy."""
    os.write(pipe[1], b"x")
    polling, turns = PollFirst(), 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(requests):
            await polling.wait_readable(pipe[0])
            time.sleep(seconds)  # noqa: ASYNC251 - see above
        nursery.cancel_scope.cancel()
    assert turns >= 5


async def test_a_thread_that_finishes_ends_the_wait(pipe: tuple[int, int]) -> None:
    """With a patience of 60 s, a thread's answer still comes at once: it wakes the poll."""
    polling = PollFirst(patience_s=60)

    async def drive(nursery: trio.Nursery) -> None:
        await trio.to_thread.run_sync(threading.Event().wait, 0.2)
        nursery.cancel_scope.cancel()

    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drive, nursery)
        await trio.sleep(0.05)
        await polling.wait_readable(pipe[0])
    assert trio.current_time() - started < 30


async def test_it_sleeps_until_there_is_something(pipe: tuple[int, int]) -> None:
    polling = PollFirst()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(polling.wait_readable, pipe[0])
        await trio.testing.wait_all_tasks_blocked()
        os.write(pipe[1], b"x")


async def test_the_lock_lets_one_in_and_everybody_in_the_end() -> None:
    lock, inside, order = QuickLock(), 0, []

    async def enter(number: int) -> None:
        nonlocal inside
        async with lock:
            inside += 1
            assert inside == 1
            order.append(number)
            await trio.lowlevel.checkpoint()
            inside -= 1

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(enter, number)
    assert sorted(order) == list(range(5))
    assert lock.woken == 0
    with trio.testing.assert_no_checkpoints():
        async with lock:
            pass


async def test_who_comes_back_first_has_the_lock_again_without_changing_tasks() -> None:
    lock = QuickLock()

    async def wait_for_it() -> None:
        async with lock:
            pass

    async with trio.open_nursery() as nursery:
        async with lock:
            nursery.start_soon(wait_for_it)
            await trio.testing.wait_all_tasks_blocked()
        with trio.testing.assert_no_checkpoints():
            async with lock:
                pass
    assert lock.woken == 0


async def test_a_request_that_takes_long_does_not_hold_up_the_next_one() -> None:
    lock, slow, done = QuickLock(), trio.Event(), []

    async def take(name: str, request: Callable[[], Awaitable[None]]) -> None:
        async with lock:
            await trio.lowlevel.checkpoint()
        await request()
        done.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, "slow", slow.wait)
        nursery.start_soon(take, "quick", trio.lowlevel.checkpoint)
        with trio.fail_after(10):
            while done != ["quick"]:
                await trio.sleep(0.001)
        slow.set()
    assert done == ["quick", "slow"]


async def test_a_task_that_would_only_find_the_lock_taken_does_not_end_the_wait(pipe: tuple[int, int]) -> None:
    """Else every request of a program that does one thing after the other would go through the event loop."""
    polling = PollFirst(patience_s=60)

    async def read_one() -> None:
        async with polling.lock:
            await polling.wait_readable(pipe[0])
            os.read(pipe[0], 1)

    async with trio.open_nursery() as nursery:
        async with polling.lock:
            nursery.start_soon(read_one)
            await trio.testing.wait_all_tasks_blocked()
        writer = threading.Timer(0.2, os.write, (pipe[1], b"x"))
        with trio.testing.assert_no_checkpoints():
            async with polling.lock:
                writer.start()
                await polling.wait_readable(pipe[0])
    writer.join()


async def test_a_waiter_that_is_cancelled_does_not_keep_the_lock() -> None:
    lock = QuickLock()
    async with lock:
        with trio.move_on_after(0.01):
            async with lock:
                raise AssertionError("two inside")
    async with lock:
        pass


def test_it_offers_what_pyfuse3_takes_from_trio() -> None:
    offered = stand_in()
    assert offered.open_nursery is trio.open_nursery
    assert offered.lowlevel.current_task is trio.lowlevel.current_task


@pytest.mark.parametrize("busy", [False, True], ids=["sleeping", "between requests"])
@pytest.mark.parametrize("turns", range(4))
async def test_the_end_of_the_session_is_heard_whatever_the_loop_does_just_then(
    pipe: tuple[int, int], busy: bool, turns: int
) -> None:
    """The daemon would stay for ever: the end is told once, and no request comes any more."""
    if busy:
        os.write(pipe[1], b"x")
    loop = stand_in().lowlevel

    async def take_requests() -> None:
        while True:
            await loop.wait_readable(pipe[0])

    async def serve() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await take_requests()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            if busy:
                os.read(pipe[0], 1)
            loop.notify_closing(pipe[0])
