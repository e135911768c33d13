"""Servers that keep their data on the folder: PostgreSQL killed with the daemon under it, and a Samba share."""

from __future__ import annotations

import glob
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mount.real import Pool, call, mounted_pool
from tests.programs import wait_for_end

pytestmark = [
    pytest.mark.mount,
    pytest.mark.soak,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(os.getuid() != 0, reason="only root may start servers as other users"),
]

ROUNDS = 3


@pytest.fixture
def open_pool() -> Iterator[Pool]:
    """In a folder that other users may enter."""
    with tempfile.TemporaryDirectory(prefix="ecfs-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with mounted_pool(folder) as pool:
            yield pool


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Postgres:
    """One cluster on the folder, run as the user postgres."""

    def __init__(self, pool: Pool) -> None:
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        if not found:
            pytest.skip("postgresql is missing (Debian package postgresql)")
        self.bin, self.data, self.port = found[-1], pool.mnt / "data", str(free_port())
        self.pid = 0
        self.data.mkdir()
        shutil.chown(self.data, "postgres", "postgres")
        self.data.chmod(0o700)

    def command(self, program: str, *arguments: str) -> list[str]:
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", f"{self.bin}/{program}", *arguments]

    def run(self, program: str, *arguments: str) -> str:
        return call(*self.command(program, *arguments), cwd=Path("/"))

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c shared_buffers=16MB"
        with open(os.devnull, "w") as nowhere:
            arguments = ["-D", str(self.data), "-w", "-t", "240", "-l", "/dev/null", "-o", options, "start"]
            command = self.command("pg_ctl", *arguments)
            for _ in range(5):  # children of the last one may not have noticed yet
                done = subprocess.run(command, cwd="/", check=False, stdout=nowhere, stderr=nowhere, timeout=270)
                if done.returncode == 0:
                    break
                subprocess.run(["sleep", "2"], check=True)
        self.pid = int((self.data / "postmaster.pid").read_text().split()[0])

    def die(self) -> None:
        """As in a power cut: nothing is shut down. Its children end when they notice."""
        os.kill(self.pid, signal.SIGKILL)
        assert wait_for_end(self.pid)

    def sql(self, text: str) -> str:
        return self.run("psql", "-h", "127.0.0.1", "-p", self.port, "-d", "postgres", "-qAtc", text).strip()

    def bench(self, *arguments: str) -> list[str]:
        return self.command("pgbench", "-h", "127.0.0.1", "-p", self.port, "-U", "postgres", *arguments, "postgres")


def test_postgresql_loses_nothing_when_the_daemon_is_killed_under_pgbench(open_pool: Pool) -> None:
    pool, postgres = open_pool, Postgres(open_pool)
    postgres.run("initdb", "-D", str(postgres.data), "--data-checksums", "-A", "trust", "-U", "postgres")
    postgres.start()
    subprocess.run(postgres.bench("-i", "-s", "2", "-q"), check=True, capture_output=True, timeout=2700, cwd="/")
    postgres.sql("CREATE TABLE acknowledged (n int)")
    for number in range(ROUNDS):
        if number == 1:
            pool.lose(1, 4)
        working = subprocess.Popen(
            postgres.bench("-T", "30", "-c", "4"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        subprocess.run(["sleep", "4"], check=True)
        postgres.sql(f"INSERT INTO acknowledged VALUES ({number})")
        pool.kill()
        working.wait(300)
        postgres.die()
        pool.mount()
        postgres.start()
        assert postgres.sql("SELECT count(*) FROM acknowledged") == str(number + 1)
        same = "SELECT (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(bbalance) FROM pgbench_branches)"
        assert postgres.sql(same) == "t"
    postgres.run("pg_ctl", "-D", str(postgres.data), "-m", "fast", "stop")
    pool.ecfs("scrub", "mnt")
    said = postgres.run("pg_checksums", "--check", "-D", str(postgres.data))
    assert re.search(r"Bad checksums:\s+0", said)


CONF = """
[global]
server role = standalone server
map to guest = bad user
guest account = root
smb ports = {port}
interfaces = lo
bind interfaces only = yes
disable netbios = yes
pid directory = {base}
lock directory = {base}
state directory = {base}
cache directory = {base}
private dir = {base}
ncalrpc dir = {base}/ncalrpc
log file = {base}/log
load printers = no
[share]
path = {share}
guest ok = yes
read only = no
force user = root
ea support = yes
store dos attributes = yes
"""


@contextmanager
def samba(share: Path, base: Path) -> Iterator[int]:
    if not shutil.which("smbd") or not shutil.which("smbclient"):
        pytest.skip("smbd or smbclient is missing (Debian packages samba, smbclient)")
    port = free_port()
    base.mkdir()
    (base / "smb.conf").write_text(CONF.format(port=port, base=base, share=share))
    server = subprocess.Popen(
        ["smbd", "--foreground", "--no-process-group", "-s", base / "smb.conf"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        wait_for(port)
        yield port
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


def wait_for(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        subprocess.run(["sleep", "0.1"], check=True)
    raise AssertionError("smbd does not listen")


def test_a_samba_share_is_written_and_read(pool: Pool, tree: Path, tmp_path: Path) -> None:
    share = pool.mnt / "share"
    share.mkdir()

    def client(commands: str) -> str:
        return call("smbclient", "//127.0.0.1/share", "-p", str(port), "-N", "-c", commands, cwd=tmp_path)

    with samba(share, pool.place.private / "samba") as port:
        client(f"prompt OFF; recurse ON; lcd {tree}; mput json; put large")
        pool.lose(0, 5)
        (tmp_path / "back").mkdir()
        client(f"prompt OFF; recurse ON; lcd {tmp_path / 'back'}; mget json; get large; rename large larger; rm larger")
        client("mkdir made; rmdir made; rename json renamed")
    pool.ecfs("scrub", "mnt")
    call("diff", "-r", tree / "json", share / "renamed")
    call("diff", "-r", tree / "json", tmp_path / "back/json")
    call("cmp", tree / "large", tmp_path / "back/large")
    assert sorted(os.listdir(share)) == ["renamed"]
