"""Several tasks at once, whose errors come out as themselves and not in a group."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import trio

from ecfs.errors import EcfsError, FencedError


async def together(calls: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Run all at once and to their end; then raise the first EcfsError, if any, as itself and not in a group."""
    calls = list(calls)
    if len(calls) < 2:
        for call in calls:
            await call()  # a task of its own would take longer than many a call
        return
    failures: list[EcfsError] = []

    async def guarded(call: Callable[[], Awaitable[None]]) -> None:
        try:
            await call()
        except EcfsError as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(guarded, call)
    raise_gravest(failures)


@asynccontextmanager
async def beside(work: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Run `work`, which never fails, for as long as the body takes. An EcfsError of the body comes out as itself: from
    a nursery it would come in a group, which no ``except EcfsError`` catches, and end all healing."""
    failures: list[EcfsError] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        try:
            yield
        except EcfsError as error:
            failures.append(error)
        nursery.cancel_scope.cancel()
    raise_gravest(failures)


async def few_at_a_time(count: int, calls: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Like `together`, but at most `count` run at once."""
    waiting = iter(calls)

    async def work() -> None:
        failures: list[EcfsError] = []
        for call in waiting:
            try:
                await call()
            except EcfsError as error:
                failures.append(error)
        raise_gravest(failures)

    await together([work] * min(count, len(calls)))


def raise_gravest(failures: Sequence[EcfsError]) -> None:
    """Raise one of them, if there are any."""
    if failures:
        # Being fenced is final and must not hide behind a stall that is retried.
        raise next((error for error in failures if isinstance(error, FencedError)), failures[0])
