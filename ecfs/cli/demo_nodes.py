"""`ecfs demo --nodes`: six storage nodes on this machine, two of them killed, then two others."""

from __future__ import annotations

import re
import select
import shutil
import subprocess
import sys
from pathlib import Path

import click

from ecfs.cli.demo import FILES, PATIENCE_S, DemoError, Story

POOL = "pool.toml"


class NodesStory(Story):
    """Files go in and out with put and get, so that no FUSE is needed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._nodes: dict[int, subprocess.Popen[str]] = {}
        self._ports = dict.fromkeys(range(6), 0)

    def tell(self) -> None:
        click.echo("Six storage nodes, each a process with a directory of its own\n")
        self._write_originals()
        try:
            for slot in range(6):
                self._start(slot)
            self._write_pool_file()
            self._run("create", POOL)
            self._run("put", "-r", POOL, "original", "/original")
            self._kill(0, 3)
            self._fetch()
            self._bring_back_empty(0, 3)
            self._run("scrub", "--no-progress", POOL)
            self._kill(1, 4)
            self._fetch()
        finally:
            for node in self._nodes.values():
                _end(node)

    def _start(self, slot: int) -> None:
        arguments = ["node", f"node{slot}", "--listen", f"127.0.0.1:{self._ports[slot]}"]
        self._show("ecfs " + " ".join(arguments) + " &")
        node = subprocess.Popen(
            [sys.executable, "-m", "ecfs", *arguments, "--with-parent"],
            cwd=self._folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._nodes[slot] = node
        said = re.search(r":(\d+)", self._first_line(node))
        if said is None:
            raise DemoError(f"the node for node{slot} did not start")
        self._ports[slot] = int(said[1])

    def _first_line(self, node: subprocess.Popen[str]) -> str:
        if node.stdout is None or not select.select([node.stdout], [], [], PATIENCE_S)[0]:
            return ""
        return node.stdout.readline()

    def _write_pool_file(self) -> None:
        lines = ["[pool]", "data = 4", "parity = 2"]
        for port in self._ports.values():
            lines += ["", "[[drive]]", f'url = "127.0.0.1:{port}"']
        (self._folder / POOL).write_text("\n".join(lines) + "\n")

    def _kill(self, *slots: int) -> None:
        self._show("kill -9 " + " ".join(f"node{slot}" for slot in slots))
        for slot in slots:
            _end(self._nodes[slot])

    def _bring_back_empty(self, *slots: int) -> None:
        self._show("rm -rf " + " ".join(f"node{slot}" for slot in slots))
        for slot in slots:
            shutil.rmtree(self._folder / f"node{slot}")
            self._start(slot)

    def _fetch(self) -> None:
        shutil.rmtree(self._folder / "copy", ignore_errors=True)
        self._run("get", "-r", POOL, "/original", "copy")
        self._show("diff -r original copy")
        for original in (self._folder / "original").iterdir():
            if original.read_bytes() != (self._folder / "copy" / original.name).read_bytes():
                raise DemoError(f"{original.name} differs: this must never happen, please report it")
        click.echo(f"  all {FILES} files are equal")


def _end(node: subprocess.Popen[str]) -> None:
    node.kill()
    node.wait()
    for end in (node.stdin, node.stdout):
        if end is not None:
            end.close()
