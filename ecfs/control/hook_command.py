"""Running the on_event command: facts in its environment and as JSON on its standard input, and never for too long."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import trio

from ecfs.control.failure import leaves

OUTPUT_BYTES = 2000
"""Of what it printed, the end is kept to explain a failure."""
LAST_WORDS_S = 0.2
PREFIX = "ECFS_"
VARIABLE_BYTES = 100_000
"""Linux starts no program with a variable of more than 128 KiB. The JSON has the whole of it."""
PLAIN = (str, int, float)


@dataclass(frozen=True)
class HookCommand:
    """arguments: the program and what it gets, without a shell. timeout_s: it is killed then, its children too."""

    arguments: tuple[str, ...]
    timeout_s: float = 30.0


async def run_hook(command: HookCommand, facts: Mapping[str, Any]) -> str:
    """Run it once. "" if it succeeded, else why not, as a line for people.

    facts become ECFS_KIND, ECFS_TEXT and so on (what is not known: empty), those that are no plain values only JSON.
    """
    said = bytearray()
    status: int | None = None
    try:
        with trio.move_on_after(command.timeout_s):
            status = await _run(command, facts, said)
    except ExceptionGroup as group:
        error = next(leaves(group))
        if not isinstance(error, OSError):
            raise
        return f"{command.arguments[0]} can't be run: {error.strerror or error}"
    if status == 0:
        return ""
    how = f"took longer than {command.timeout_s:g} s" if status is None else f"ended with {_how(status)}"
    words = " ".join(said[-OUTPUT_BYTES:].decode(errors="replace").split())
    return f"{command.arguments[0]} {how}" + (f": {words}" if words else "")


async def _run(command: HookCommand, facts: Mapping[str, Any], said: bytearray) -> int:
    begin = partial(
        trio.run_process, list(command.arguments), stdin=msgspec.json.encode(facts), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, check=False, env=environment(facts), cwd="/", start_new_session=True,
        deliver_cancel=_kill_all,
    )  # fmt: skip
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(begin)
        nursery.start_soon(_listen, process, said)
        status = await process.wait()
        # Whatever it left in the background may hold the pipe open for ever: that is not waited for.
        await trio.sleep(LAST_WORDS_S if status else 0)
        nursery.cancel_scope.cancel()
    return status


def environment(facts: Mapping[str, Any]) -> dict[str, str]:
    """The daemon's own, and the plain facts. A NUL, which no variable can hold, is left out."""
    named = {
        PREFIX + name.upper(): "" if value is None else _variable(str(value))
        for name, value in facts.items()
        if value is None or isinstance(value, PLAIN)
    }
    return os.environ | named


def _variable(text: str) -> str:
    return text.replace("\0", "").encode(errors="replace")[:VARIABLE_BYTES].decode(errors="ignore")


async def _listen(process: trio.Process, said: bytearray) -> None:
    if process.stdout is None:
        return
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while chunk := await process.stdout.receive_some(4096):
            said += chunk
            del said[:-OUTPUT_BYTES]


async def _kill_all(process: trio.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _how(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
