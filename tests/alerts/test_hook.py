"""Every event reaches the command once: also when it fails, hangs, or the daemon ends meanwhile."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from ecfs.clock import SystemClock
from ecfs.control import hook as hook_module
from ecfs.control.hook import Hook
from ecfs.control.hook_command import HookCommand
from ecfs.control.hook_filter import Told
from ecfs.mount.alerts import _run
from ecfs.pool.members import Event, Member, Members

RIGHT = HookCommand(("/bin/true",))


class Command:
    """In place of a program: notes what it is told, fails while told to."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.tries = 0
        self.fails = False

    async def run(self, command: HookCommand, facts: dict[str, Any]) -> str:
        self.tries += 1
        await trio.sleep(0.01)
        if self.fails:
            return "no mail server"
        self.told.append(facts)
        return ""

    @property
    def texts(self) -> list[str]:
        return [fact["text"] for fact in self.told]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    made = Command()
    monkeypatch.setattr(hook_module, "run_hook", made.run)

    async def in_line(call: Callable[..., Any], *arguments: Any) -> Any:
        return call(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", in_line)
    return made


def members() -> Members:
    table = [Member(slot, f"/d{slot}", up=True, in_w=True, state="online") for slot in range(6)]
    return Members(SystemClock(), table, need=4, m=2)


@asynccontextmanager
async def hook_of(path: Path, table: Members, epoch: int = 2) -> AsyncIterator[Hook]:
    hook = Hook(RIGHT, path, clock=SystemClock(), epoch=epoch, facts=lambda: {"state": "degraded"})
    hook.listen(table)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hook.run)
        yield hook
        nursery.cancel_scope.cancel()
    await hook.close()


async def test_every_event_is_told_once_in_order_with_how_the_pool_is(
    tmp_path: Path, command: Command, autojump_clock: trio.testing.MockClock
) -> None:
    table = members()
    async with hook_of(tmp_path / "s", table) as hook:
        table.take_down(1, "absent", "pulled")
        table.note(None, "stalled", "no space")
        table.note(None, "recovered", "commits are durable again")
        await hook.drained(60)
    assert [fact["kind"] for fact in command.told] == ["absent", "stalled", "recovered"]
    assert {fact["state"] for fact in command.told} == {"degraded"}
    assert [fact["slot"] for fact in command.told] == [1, None, None]
    assert len({fact["id"] for fact in command.told}) == 3


async def test_nothing_is_lost_while_the_command_fails_for_a_minute(
    tmp_path: Path, command: Command, autojump_clock: trio.testing.MockClock
) -> None:
    table, command.fails = members(), True
    async with hook_of(tmp_path / "s", table) as hook:
        for second in range(60):
            table.note(None, "checkpoint-failed", f"at {second}")
            await trio.sleep(1)
        assert command.told == []
        assert 5 <= command.tries <= 20  # it backs off
        assert hook.failures == command.tries
        command.fails = False
        await hook.drained(120)
    assert command.texts == [f"at {second}" for second in range(60)]


async def test_what_waits_outlives_the_mount_and_is_told_once(
    tmp_path: Path, command: Command, autojump_clock: trio.testing.MockClock
) -> None:
    table, command.fails = members(), True
    async with hook_of(tmp_path / "s", table):
        table.take_down(1, "absent", "pulled")
        await trio.sleep(5)
        table.note(None, "stalled", "while it failed")
    command.fails = False
    later = members()
    later[1].state = "absent"  # still
    async with hook_of(tmp_path / "s", later, epoch=3) as hook:
        await hook.drained(60)
    assert [fact["kind"] for fact in command.told] == ["absent", "stalled"]
    async with hook_of(tmp_path / "s", later, epoch=4) as hook:
        await trio.sleep(60)
    assert len(command.told) == 2  # a third mount has nothing to say
    assert hook.waiting == 0


async def test_a_daemon_that_is_killed_leaves_what_waits(
    tmp_path: Path, command: Command, autojump_clock: trio.testing.MockClock
) -> None:
    table, command.fails = members(), True
    async with hook_of(tmp_path / "s", table):
        table.take_down(1, "absent", "pulled")
        await trio.sleep(0.5)
        kept = (tmp_path / "s").read_bytes()
    (tmp_path / "s").write_bytes(kept)  # as it was in the moment of the kill
    command.fails = False
    later = members()
    later[1].state = "absent"
    async with hook_of(tmp_path / "s", later, epoch=3) as hook:
        await hook.drained(60)
    assert command.texts == ["online → absent: pulled"]


async def test_a_drive_that_left_while_nothing_was_mounted_is_told(
    tmp_path: Path, command: Command, autojump_clock: trio.testing.MockClock
) -> None:
    table = members()
    table[4].state, table[4].reason = "absent", "not found"
    async with hook_of(tmp_path / "s", table) as hook:
        await hook.drained(60)
    back = members()
    async with hook_of(tmp_path / "s", back, epoch=3) as hook:
        await hook.drained(60)
    assert command.texts == ["absent when the pool was mounted: not found", "online when the pool was mounted"]


async def test_more_than_can_wait_is_counted(
    tmp_path: Path, command: Command, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook_module, "MAX_WAITING", 20)
    table, command.fails = members(), True
    async with hook_of(tmp_path / "s", table) as hook:
        for number in range(70):
            table.note(None, "checkpoint-failed", str(number))
        await trio.sleep(1)
        assert hook.waiting == 20
        command.fails = False
        await hook.drained(3600)
    assert command.told[0]["dropped"] == 50
    assert sum(fact["dropped"] for fact in command.told) == 50
    assert command.texts == [str(number) for number in range(50, 70)]


@pytest.mark.parametrize("damage", [b"", b"{", b'{"waiting": 1}', b"\xff\xfe"])
async def test_a_damaged_file_is_no_reason_to_be_silent(
    tmp_path: Path, command: Command, autojump_clock: trio.testing.MockClock, damage: bytes
) -> None:
    (tmp_path / "s").write_bytes(damage)
    table = members()
    async with hook_of(tmp_path / "s", table) as hook:
        table.take_down(1, "absent", "pulled")
        await hook.drained(60)
    assert len(command.told) == 1
    assert json.loads((tmp_path / "s").read_bytes())["waiting"] == []


async def test_a_disk_of_the_host_that_is_full_does_not_silence_it(
    tmp_path: Path, command: Command, autojump_clock: trio.testing.MockClock
) -> None:
    (tmp_path / "file").touch()
    table = members()
    async with hook_of(tmp_path / "file" / "s", table) as hook:
        table.take_down(1, "absent", "pulled")
        await hook.drained(60)
    assert len(command.told) == 1


# ---- no repeats ------------------------------------------------------------------------------------------------


def news(told: Told, slot: int | None, kind: str, text: str = "", at_s: int = 0) -> bool:
    return told.is_news(Event(at_s * 1_000_000_000, slot, kind, text))


def test_the_same_state_is_told_once_and_each_change_again() -> None:
    told = Told()
    assert not news(told, 1, "online")
    assert news(told, 1, "absent", "online → absent: pulled")
    assert not news(told, 1, "absent", "absent → absent: there is no directory")
    assert news(told, 2, "absent", "online → absent: pulled")
    assert news(told, 1, "behind")
    assert news(told, 1, "online")
    assert news(told, 1, "absent", "online → absent: pulled")


def test_a_stall_is_told_again_only_after_it_ended() -> None:
    told = Told()
    assert [news(told, None, kind) for kind in ("stalled", "stalled", "recovered", "stalled")] == [
        True,
        False,
        True,
        True,
    ]


def test_the_same_words_come_again_after_an_hour() -> None:
    told = Told()
    assert news(told, None, "place", "x", 10)
    assert not news(told, None, "place", "x", 20)
    assert news(told, None, "place", "y", 30)
    assert news(told, None, "place", "x", 40)
    assert news(told, None, "place", "x", 4000)
    for number in range(1000):
        news(told, number, "place", "x", 4000)
    assert len(told.words) <= 200


async def test_an_unexpected_error_does_not_silence_it_for_good(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """Such as no thread to be had for a moment: nothing was told any more, up to the next mount."""
    told: list[str] = []

    async def run(command: HookCommand, facts: dict[str, Any]) -> str:
        if not told:
            told.append("a bug")
            raise RuntimeError("can't start new thread")
        told.append(facts["text"])
        return ""

    monkeypatch.setattr(hook_module, "run_hook", run)
    table = members()
    hook = Hook(RIGHT, tmp_path / "spool", clock=SystemClock(), epoch=1, facts=dict)
    hook.listen(table)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_run, hook)
        table.note(None, "stalled", "no room")
        await hook.drained(300)
        nursery.cancel_scope.cancel()
    assert told == ["a bug", "no room"]
