"""Short operations of several drives: few threads for fast disks, many for slow ones, and none waits for a hung one."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from functools import partial

import pytest
import trio

from ecfs.drive import begun
from ecfs.drive.begun import AT_ONCE, REMEMBERED, SHORT_S, Gathering, Line


async def gather(works: list[Callable[[], object]], line: Line) -> None:
    gathering = Gathering(line)

    def work(call: Callable[[], object], done: Callable[[], None]) -> None:
        call()
        done()

    for call in works:
        gathering.line_up(partial(work, call, gathering.expect()), lambda: None)
    with trio.fail_after(20):
        await gathering.wait()


async def test_what_is_short_is_done_by_few_threads() -> None:
    threads: list[int] = []
    await gather([lambda: threads.append(threading.get_ident())] * 6, Line())
    assert len(threads) == 6
    assert len(set(threads)) <= AT_ONCE


async def test_what_hangs_holds_up_nobody() -> None:
    go_on, others = threading.Event(), threading.Barrier(4)

    def thaw() -> None:
        others.wait()
        go_on.set()

    thread = threading.Thread(target=thaw)
    thread.start()
    await gather([*[go_on.wait] * AT_ONCE, *[others.wait] * 3], Line())
    thread.join()


async def test_slow_disks_are_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(begun, "PATIENCE_S", 60)
    line, all_at_once = Line(), threading.Barrier(6)
    for _ in range(REMEMBERED):
        line.note(3 * SHORT_S)
    await gather([all_at_once.wait] * 6, line)


def test_disks_that_looked_slow_are_looked_at_again() -> None:
    line = Line()
    for _ in range(REMEMBERED):
        line.note(3 * SHORT_S)
    assert sorted(line.threads(6) for _ in range(REMEMBERED)) == [AT_ONCE, *[6] * (REMEMBERED - 1)]
    line.note(SHORT_S / 2)
    assert line.threads(6) == AT_ONCE


async def test_one_slow_moment_makes_no_slow_disk() -> None:
    line = Line()
    line.note(SHORT_S / 2)
    line.note(10 * SHORT_S)
    assert line.threads(6) == AT_ONCE


async def test_told_from_any_thread_and_at_any_moment() -> None:
    """Before somebody waits, while somebody does, and in the very moment between: none of them is missed."""
    for number in range(300):
        gathering = Gathering()
        done = gathering.expect()
        thread = threading.Thread(target=done)
        thread.start()
        if number % 3 == 0:
            thread.join()
        elif number % 3 == 1:
            await trio.lowlevel.checkpoint()
        with trio.fail_after(10):
            await gathering.wait()
        thread.join()


async def test_one_after_the_other_they_need_one_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        gathering = Gathering()
        threading.Timer(0.001, gathering.expect()).start()
        await gathering.wait()
    assert len(os.listdir("/proc/self/fd")) <= before + 1


async def test_no_descriptor_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(begun, "_bells", [])
    monkeypatch.setattr(os, "eventfd", none_left)
    gathering = Gathering()
    threading.Timer(0.05, gathering.expect()).start()
    with trio.fail_after(10):
        await gathering.wait()


async def test_who_is_late_does_not_end_another_ones_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """It rings what is another's by now."""
    monkeypatch.setattr(begun, "_bells", [])
    given_up = Gathering()
    late = given_up.expect()
    with trio.move_on_after(0.05):
        await given_up.wait()
    other = Gathering()
    done = other.expect()
    threading.Timer(0.05, late).start()
    with trio.move_on_after(0.3) as scope:
        await other.wait()
    assert scope.cancelled_caught
    done()
    with trio.fail_after(10):
        await other.wait()


async def test_who_waits_lets_others_run_also_where_all_is_done() -> None:
    ran: list[int] = []

    async def other() -> None:
        ran.append(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        while not ran:
            with trio.fail_after(5):
                await Gathering().wait()
