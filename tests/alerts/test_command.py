"""The command itself: what it gets, and that nothing it does holds anybody up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from ecfs.control.hook_command import HookCommand, run_hook
from ecfs.errors import UsageError
from ecfs.pool.poolfile import Alerts, default_pool_file, read_pool_file, render_pool_file

FACTS: dict[str, Any] = {
    "id": "2-1", "kind": "absent", "slot": None, "text": "it's \"gone\"\n$(touch x) \0", "actions": ["ecfs scrub"],
}  # fmt: skip


def script(folder: Path, text: str, timeout_s: float = 30.0) -> HookCommand:
    path = folder / "hook"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return HookCommand((str(path), "an argument"), timeout_s)


async def test_it_gets_the_facts_and_no_shell_reads_them(tmp_path: Path) -> None:
    said = script(tmp_path, f'env > "{tmp_path}/env"; cat > "{tmp_path}/stdin"; echo "$1" > "{tmp_path}/argument"')
    assert await run_hook(said, FACTS) == ""
    assert json.loads((tmp_path / "stdin").read_text()) == FACTS
    environment = (tmp_path / "env").read_text()
    assert "ECFS_KIND=absent\n" in environment
    assert "ECFS_SLOT=\n" in environment
    assert 'ECFS_TEXT=it\'s "gone"\n$(touch x) \n' in environment
    assert "ECFS_ACTIONS" not in environment
    assert (tmp_path / "argument").read_text() == "an argument\n"
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [("echo no mail server >&2; exit 3", "exit status 3: no mail server"), ("kill -9 $$", "signal SIGKILL"),
     ("head -c 50000000 /dev/zero | tr '\\0' x; exit 1", "exit status 1: xxx")],
)  # fmt: skip
async def test_why_it_failed_is_said(tmp_path: Path, text: str, says: str) -> None:
    failure = await run_hook(script(tmp_path, text), FACTS)
    assert says in failure
    assert len(failure) < 3000


async def test_a_text_longer_than_a_variable_may_be_is_whole_on_standard_input(tmp_path: Path) -> None:
    """Else the command could not be run, and every event behind this one would wait for ever."""
    said = script(tmp_path, f'printf %s "$ECFS_TEXT" > "{tmp_path}/variable"; cat > "{tmp_path}/stdin"')
    facts = {"kind": "absent", "text": "ü" * 100_000}
    assert await run_hook(said, facts) == ""
    assert (tmp_path / "variable").read_text() == "ü" * 50_000
    assert json.loads((tmp_path / "stdin").read_text()) == facts


async def test_what_can_not_be_run_is_a_failure_like_any_other(tmp_path: Path) -> None:
    assert "No such file" in await run_hook(HookCommand((str(tmp_path / "none"),)), FACTS)
    assert "Permission denied" in await run_hook(HookCommand((str(tmp_path),)), FACTS)


async def test_one_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    hung = script(tmp_path, f'sleep 1000 & echo $! > "{tmp_path}/child"; trap "" TERM; wait; sleep 1000', timeout_s=1)
    with trio.fail_after(30):
        assert "took longer than 1 s" in await run_hook(hung, FACTS)
    child = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    with trio.fail_after(10):
        while child.exists() and child.read_text().split()[2] != "Z":
            await trio.sleep(0.05)


async def test_one_that_reads_nothing_or_leaves_something_behind_has_succeeded(tmp_path: Path) -> None:
    facts = {**FACTS, "text": "x" * 300_000, "long": ["y" * 300_000]}
    facts["text"] = "short"
    with trio.fail_after(20):
        assert await run_hook(script(tmp_path, "exec <&-; exit 0"), facts) == ""
        assert await run_hook(script(tmp_path, "sleep 30 & exit 0"), FACTS) == ""


# ---- pool.toml --------------------------------------------------------------------------------------------------


def pool_file(folder: Path, alerts: str) -> Path:
    path = folder / "pool.toml"
    path.write_text(render_pool_file(default_pool_file(folder, 4, 2)) + "\n[alerts]\n" + alerts)
    return path


@pytest.mark.parametrize(
    ("text", "wanted"),
    [('on_event = "/bin/mail -s \'a pool\' root"', Alerts(("/bin/mail", "-s", "a pool", "root"))),
     ('on_event = ["/bin/a b", "c"]\ntimeout_s = 5', Alerts(("/bin/a b", "c"), 5))],
)  # fmt: skip
def test_the_pool_file_names_it(tmp_path: Path, text: str, wanted: Alerts) -> None:
    read = read_pool_file(pool_file(tmp_path, text))
    assert read.alerts == wanted
    (tmp_path / "pool.toml").write_text(render_pool_file(read))
    assert read_pool_file(tmp_path / "pool.toml") == read


@pytest.mark.parametrize(
    ("text", "says"),
    [("on_evnt = '/x'", "did you mean 'on_event'"), ("timeout_s = 3", "must be a command"), ("on_event = 3", "command"),
     ('on_event = ""', "command"), ('on_event = "mail root"', "from / on"), ("on_event = ['/x', 3]", "command"),
     ('on_event = "/x \'"', "No closing quotation"), ('on_event = "/x"\ntimeout_s = 0', "between 1 and 600"),
     ('on_event = "/x"\ntimeout_s = "3"', "whole number")],
)  # fmt: skip
def test_what_is_wrong_there_is_said(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_pool_file(pool_file(tmp_path, text))
