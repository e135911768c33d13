"""Six storage servers on this machine, everything over loopback: nodes of ecfs, and bricks of GlusterFS.

    make bench CONTENDERS=ecfs-nodes,glusterfs

GlusterFS needs no set-up but its packages (Debian: glusterfs-server, glusterfs-client): its daemon is started if none
runs, a dispersed volume of 4 + 2 bricks is made on the six drives, and taken away afterwards.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

from benchmarks.contenders import Contender, Ecfs
from benchmarks.shell import run, wait_until

VOLUME = "ecfs-bench"
HOST = socket.gethostname()
"""GlusterFS takes no loopback address; what is sent to one's own name stays on the loopback device all the same."""


class EcfsNodes(Ecfs):
    """4 + 2 shards on six nodes, each a process with an XFS drive of its own. Without TLS, as the peer."""

    name = "ecfs-nodes"

    def start(self) -> None:
        self.drives.mount_xfs()
        self._nodes = [self._node(number) for number in range(6)]
        self.pool = self.drives.base / "pool.toml"
        listed = "".join(f'[[drive]]\nurl = "{self._address(node)}"\n' for node in self._nodes)
        self.pool.write_text(f"[pool]\ndata = 4\nparity = 2\n{listed}")
        self.command("create", self.pool)
        self.mount()

    def _node(self, number: int) -> subprocess.Popen[str]:
        line = self._line("node", self._shards(number), "--listen", "127.0.0.1:0")
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)

    def _address(self, node: subprocess.Popen[str]) -> str:
        assert node.stdout is not None
        found = re.search(r"127\.0\.0\.1:\d+", node.stdout.readline())
        if found is None:
            raise RuntimeError("a node did not start")
        return found[0]

    def stop(self) -> None:
        super().stop()
        for node in self._nodes:
            node.send_signal(signal.SIGTERM)
        for node in self._nodes:
            node.wait(30)


class GlusterFs(Contender):
    """A dispersed volume: six bricks, of which two may be lost; through its FUSE client."""

    name = "glusterfs"
    needs = ("mkfs.xfs", "glusterd", "gluster", "mount.glusterfs")

    def start(self) -> None:
        self.drives.mount_xfs()
        if not _answers():
            run("glusterd")
        wait_until(_answers, "glusterd")
        self._remove()
        bricks = [f"{HOST}:{self._brick(number)}" for number in range(6)]
        self._gluster("create", "disperse", "6", "redundancy", "2", *bricks, "force")
        self._gluster("start")
        run("mount", "-t", "glusterfs", f"{HOST}:/{VOLUME}", self.root)

    def stop(self) -> None:
        super().stop()
        self._remove()

    def _remove(self) -> None:
        self._gluster("stop", "force", ok=(0, 1))
        self._gluster("delete", ok=(0, 1))

    def _brick(self, number: int) -> Path:
        return self.drives.place(number) / "brick"

    def _gluster(self, action: str, *arguments: str, ok: tuple[int, ...] = (0,)) -> None:
        run("gluster", "--mode=script", "volume", action, VOLUME, *arguments, ok=ok)


def _answers() -> bool:
    return subprocess.run(["gluster", "pool", "list"], capture_output=True, check=False).returncode == 0


NODES: dict[str, type[Contender]] = {kind.name: kind for kind in (EcfsNodes, GlusterFs)}
"""Measured when they are named; among drives on one machine they have no place."""
