"""Sizes, durations and progress as people read them."""

from __future__ import annotations

import click
import pytest

from ecfs.cli.progress import describe
from ecfs.cli.render import age, duration, size, with_command_whole
from ecfs.cli.scrub import command, parse_rate
from ecfs.control.wording import count


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (200 << 20, "200 MiB"), (5 << 40, "5.0 TiB"), (None, "unknown")],
)
def test_size(number: int | None, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (-3, "0 s"), (59.6, "1 min"), (200, "3 min 20 s"), (7200, "2 h"), (90_000, "1 d 1 h")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_age_and_count() -> None:
    assert (age(None, 5), age(5, 65)) == ("never", "1 min ago")
    assert (count(1, "shard"), count(1234, "shard")) == ("1 shard", "1,234 shards")


def test_a_command_is_not_broken_at_the_end_of_a_line() -> None:
    action = "if its directory was deleted, rebuild drive 3 in place: ecfs scrub drives"
    assert with_command_whole(action, len(action)) == action
    assert with_command_whole(action, 70).splitlines()[1] == "ecfs scrub drives"
    assert with_command_whole("nothing to do", 5) == "nothing to do"


def test_progress_says_only_what_is_known() -> None:
    progress = {"bytes_done": 0, "bytes_total": 3 << 30, "rate": 0.0, "eta_s": None, "found": 0, "repaired": 0}
    assert describe(progress) == "0 B of 3.0 GiB"
    progress |= {"bytes_done": 1 << 30, "rate": 120 * 2.0**20, "eta_s": 17.0, "found": 2, "repaired": 1}
    assert describe(progress) == "1.0 GiB of 3.0 GiB · 120 MiB/s · 17 s left · 2 found, 1 repaired"


@pytest.mark.parametrize(
    ("text", "rate"), [("50M", 50 << 20), ("1.5k", 1536), ("100", 100), ("2 GiB/s", None), ("2GiB/s", 2 << 30)]
)
def test_rate(text: str, rate: float | None) -> None:
    context = click.Context(command)
    if rate is None:
        with pytest.raises(click.BadParameter):
            parse_rate(context, command.params[0], text)
    else:
        assert parse_rate(context, command.params[0], text) == rate
