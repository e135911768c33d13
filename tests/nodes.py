"""Storage nodes for tests: in a thread of this process, or as the real command in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import trio

from ecfs.clock import SystemClock
from ecfs.drive.node import NodeDrive
from ecfs.node.server import NodePlan, serve_node
from ecfs.rpc.tls import TlsFiles

PATIENCE_S = 20


class ThreadNode:
    """A node with an event loop of its own, in a thread: quick to start, and what is patched here hits it, too."""

    def __init__(self, directory: Path, *, port: int = 0, tls: TlsFiles | None = None) -> None:
        self._plan = NodePlan(str(directory), "127.0.0.1", port, tls)
        self._up = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._up.wait(PATIENCE_S)
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:
            self._failure = error
        self._up.set()

    async def _serve(self) -> None:
        self._asked_to_end = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        await serve_node(self._plan, SystemClock(), self._ready, asked_to_end=self._asked_to_end)

    def _ready(self, port: int) -> None:
        self.port = port
        self._up.set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def drive(self, *, slot: int | None = 3, pool_id: str = "") -> NodeDrive:
        return NodeDrive(self.address, SystemClock(), slot=slot, pool_id=pool_id, deadline_s=20)

    def stop(self) -> None:
        try:
            self._token.run_sync_soon(self._asked_to_end.set)
        except trio.RunFinishedError:
            return
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


class ProcessNode:
    """``ecfs node`` as people start it."""

    def __init__(
        self,
        directory: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        options: Sequence[str] = (),
        within: Sequence[str] = (),
        program: Sequence[str] = ("-m", "ecfs"),
    ) -> None:
        """within: a command that runs the node elsewhere, such as in a network namespace. program: for Python."""
        self.directory = directory
        self.host = host
        self._options = options
        self._within = within
        self._program = program
        self.port = port
        self.start()

    def start(self) -> None:
        listen = f"{self.host}:{self.port}"
        python = [*self._within, sys.executable, *self._program]
        command = [*python, "node", str(self.directory), "--listen", listen]
        self.process = subprocess.Popen(
            [*command, *self._options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if "serving" not in line:
            raise AssertionError(line + self.end())
        self.port = int(re.split(rf"{self.host}:(\d+)", line)[1])

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def drive(self, *, slot: int | None = 3, pool_id: str = "", deadline_s: float = 2.0) -> NodeDrive:
        return NodeDrive(self.address, SystemClock(), slot=slot, pool_id=pool_id, deadline_s=deadline_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=PATIENCE_S)

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> str:
        """Ask it to end; what it wrote to standard error."""
        self.process.terminate()
        return self.process.communicate(timeout=PATIENCE_S)[1]
