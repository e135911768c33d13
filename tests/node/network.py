"""Six nodes in network namespaces of their own, on one bridge: cables to pull, packets to drop. Needs root."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.made_of import write_pool_file
from tests.mount.real import Pool
from tests.nodes import ProcessNode
from tests.programs import place
from tests.relay import Relay

NET = "10.213.77"
BRIDGE = "ecfsbr0"
PORT = 9001


def run(command: str) -> None:
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"


def nft(command: str, *within: str) -> None:
    done = subprocess.run([*within, "nft", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


RELAYED = 5
PARTITION = "ecfs_partition"


Machines = list[ProcessNode]


class Network:
    """Node N has the address NET.(N + 1) in namespace ecfsN; its cable is veth ecfsvN on the bridge.

    nodes: by slot, once they run.
    relay: stands before node `RELAYED`, because the kernel here may not know how to delay packets.
    """

    def __init__(self, relay: Relay) -> None:
        self.nodes: Machines = []
        self._relay = relay

    def delay(self, seconds: float) -> None:
        """Whatever goes to or from node `RELAYED` is so much late."""
        self._relay.delay_s = seconds

    def part(self, *slots: int) -> None:
        """The mounting host and these nodes don't hear each other."""
        addresses = ", ".join(f"{NET}.{slot + 1}" for slot in slots)
        for part in (
            f"add table inet {PARTITION}",
            f"add chain inet {PARTITION} input {{ type filter hook input priority 0 ; }}",
            f"add chain inet {PARTITION} output {{ type filter hook output priority 0 ; }}",
            f"add rule inet {PARTITION} input ip saddr {{ {addresses} }} drop",
            f"add rule inet {PARTITION} output ip daddr {{ {addresses} }} drop",
        ):
            nft(part)

    def join(self) -> None:
        nft(f"delete table inet {PARTITION}")

    def pull(self, *slots: int) -> None:
        """The cable is out: packets vanish, nobody says so."""
        for slot in slots:
            run(f"ip link set ecfsv{slot} down")

    def plug(self, *slots: int) -> None:
        for slot in slots:
            run(f"ip link set ecfsv{slot} up")

    def drop(self, slot: int, percent: int) -> None:
        """So many of the packets that the node gets are lost."""
        rule = f"add rule inet weather input numgen random mod 100 < {percent} drop"
        for part in (
            "add table inet weather",
            "add chain inet weather input { type filter hook input priority 0 ; }",
            rule,
        ):
            nft(part, "ip", "netns", "exec", f"ecfs{slot}")

    def clear(self, slot: int) -> None:
        run(f"ip netns exec ecfs{slot} nft flush ruleset")


@contextlib.contextmanager
def network() -> Iterator[tuple[Network, str]]:
    """And the relay's address."""
    _tear_down()
    try:
        run(f"ip link add {BRIDGE} type bridge")
        run(f"ip addr add {NET}.254/24 dev {BRIDGE}")
        run(f"ip link set {BRIDGE} up")
        for slot in range(6):
            run(f"ip netns add ecfs{slot}")
            run(f"ip link add ecfsv{slot} type veth peer name eth0 netns ecfs{slot}")
            run(f"ip link set ecfsv{slot} master {BRIDGE} up")
            run(f"ip -n ecfs{slot} addr add {NET}.{slot + 1}/24 dev eth0")
            run(f"ip -n ecfs{slot} link set eth0 up")
            run(f"ip -n ecfs{slot} link set lo up")
        relay = Relay(PORT, f"{NET}.{RELAYED + 1}")
        try:
            yield Network(relay), relay.address
        finally:
            relay.stop()
    finally:
        _tear_down()


def _tear_down() -> None:
    subprocess.run(["nft", f"delete table inet {PARTITION}"], capture_output=True, check=False)
    for slot in range(6):
        subprocess.run(["ip", "netns", "del", f"ecfs{slot}"], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", f"ecfsv{slot}"], capture_output=True, check=False)
    subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True, check=False)


@contextlib.contextmanager
def pool_on_network(folder: Path) -> Iterator[tuple[Pool, Network]]:
    """A pool on six nodes, each on a machine of its own as far as the network can tell; mounted."""
    (folder / "drives").mkdir()
    with network() as (made, relayed), contextlib.ExitStack() as nodes, place(folder) as here:
        direct = {slot: f"{NET}.{slot + 1}:{PORT}" for slot in range(6)}
        write_pool_file(folder / "drives", direct | {RELAYED: relayed})
        for slot in range(6):
            node = ProcessNode(
                folder / f"n{slot}", host=f"{NET}.{slot + 1}", port=PORT, options=["--insecure"],
                within=["ip", "netns", "exec", f"ecfs{slot}"],
            )  # fmt: skip
            made.nodes.append(node)
            nodes.callback(_end, node)
        pool = Pool(here)
        pool.ecfs("create", "drives/pool.toml")
        pool.mount()
        yield pool, made


def _end(node: ProcessNode) -> None:
    node.process.kill()
    node.process.__exit__(None, None, None)


def is_root() -> bool:
    return os.geteuid() == 0


@pytest.fixture
def six(tmp_path: Path) -> Iterator[tuple[Pool, Network]]:
    if not is_root():
        pytest.skip("network namespaces need root")
    with pool_on_network(tmp_path) as made:
        yield made
