"""Short operations of several drives: few threads for fast disks, many for slow ones, and none waits for a hung one."""

from __future__ import annotations

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
