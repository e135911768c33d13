"""`ecfs demo`: lose drives and get every byte back, before your eyes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ecfs.errors import EcfsError

FILES = 40
PATIENCE_S = 60


class DemoError(EcfsError):
    """The demo did not go as it must: a bug, or a machine on which it can't run."""


@click.command()
@click.option("--nodes", is_flag=True, help="The same with six storage nodes on this machine; needs no FUSE.")
def command(nodes: bool) -> int:
    """Lose drives and get every byte back, in a temporary folder.

    The first part needs neither root nor FUSE. The second one mounts a pool, writes files, deletes two drives, reads,
    repairs, deletes two others and reads again.
    """
    with _temporary_folder() as folder:
        if nodes:
            from ecfs.cli.demo_nodes import NodesStory

            NodesStory(folder).tell()
            click.echo("\nEvery byte came back. Nodes and temporary folder are gone again.")
            return 0
        _sentence(folder)
        why = _why_no_fuse()
        if why:
            click.echo(f"\nThe second part needs FUSE, which this machine does not offer: {why}.")
            return 0
        Story(folder).tell()
    click.echo("\nEvery byte came back. The temporary folder is gone again.")
    return 0


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ecfs-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sentence(folder: Path) -> None:
    from ecfs.mount.story import tell_sentence

    click.echo("1. One sentence, six shards\n")
    place = folder / "sentence"
    place.mkdir()
    if not tell_sentence(place, click.echo):
        raise DemoError("the sentence did not come back: this must never happen, please report it")


def _why_no_fuse() -> str:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse can't be opened"
    if not shutil.which("fusermount3"):
        return "fusermount3 is missing"
    return ""


class Story:
    """A pool in `folder`, its whole life in commands that are shown as they are run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "original").mkdir()
        (folder / "drives").mkdir()

    def tell(self) -> None:
        click.echo("\n2. A folder on six drives\n")
        self._write_originals()
        try:
            self._run("mount", "drives", "mnt")
            self._copy()
            self._lose(0, 3)
            self._run("scrub", "--no-progress", "mnt")
            self._lose(1, 4)
            # Once more with nothing in memory that could answer instead of the drives.
            self._run("umount", "mnt")
            self._run("mount", "drives", "mnt")
            self._compare()
            self._run("umount", "mnt")
        finally:
            self._clean_up()

    def _write_originals(self) -> None:
        """Files of many sizes whose bytes any machine makes the same."""
        for number in range(FILES):
            size = 3 ** (number % 14) + number
            pattern = hashlib.blake2b(str(number).encode()).digest()
            (self._folder / "original" / f"file-{number:02}").write_bytes((pattern * (size // 64 + 1))[:size])

    def _copy(self) -> None:
        self._show("cp -r original mnt/copy")
        shutil.copytree(self._folder / "original", self._folder / "mnt" / "copy")
        self._run("sync", "mnt")

    def _lose(self, *slots: int) -> None:
        self._show("rm -rf " + " ".join(f"drives/d{slot}" for slot in slots))
        for slot in slots:
            shutil.rmtree(self._folder / "drives" / f"d{slot}")
        self._compare()

    def _compare(self) -> None:
        self._show("diff -r original mnt/copy")
        names = sorted(path.name for path in (self._folder / "original").iterdir())
        for name in names:
            if _read(self._folder / "mnt" / "copy" / name) != (self._folder / "original" / name).read_bytes():
                raise DemoError(f"{name} differs: this must never happen, please report it")
        click.echo(f"  all {len(names)} files are equal")

    def _run(self, *arguments: str) -> None:
        self._show("ecfs " + " ".join(arguments))
        done = subprocess.run(
            [sys.executable, "-m", "ecfs", *arguments],
            cwd=self._folder, env=self._environment(), capture_output=True, text=True, timeout=PATIENCE_S,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        for line in done.stdout.splitlines():
            click.echo(f"  {line}")
        if done.returncode != 0:
            raise DemoError(f"ecfs {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")

    def _show(self, text: str) -> None:
        click.secho(f"$ {text}", bold=True)

    def _environment(self) -> dict[str, str]:
        """The daemon's socket and log go into the folder too."""
        return os.environ | {"ECFS_RUNTIME_DIR": str(self._folder / "run"), "ECFS_LOG_DIR": str(self._folder / "log")}

    def _clean_up(self) -> None:
        """Whatever happened: nothing stays mounted."""
        point = str(self._folder / "mnt")
        if os.path.ismount(point):
            subprocess.run(
                [sys.executable, "-m", "ecfs", "umount", "--force", point],
                env=self._environment(), capture_output=True, timeout=PATIENCE_S, check=False,
            )  # fmt: skip


def _read(path: Path) -> bytes:
    """From the file system, not from what the kernel remembers."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read()
