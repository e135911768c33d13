"""Real programs on a real mount."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.fuse_mount import Mounted, fuse_mount

pytestmark = pytest.mark.mount


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with fuse_mount(tmp_path_factory.mktemp("fuse")) as mounted:
        yield mounted


def run(*command: str | Path, cwd: Path | None = None) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd, timeout=100).stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real files in a real tree, with links, holes, odd modes and times."""
    tree = tmp_path_factory.mktemp("source") / "tree"
    library = Path(sysconfig.get_path("stdlib"))
    for part in ("json", "email", "xml"):
        run("cp", "-r", library / part, tree) if tree.exists() else run("cp", "-r", library / part, "-T", tree)
    (tree / "link").symlink_to("decoder.py")
    os.link(tree / "decoder.py", tree / "hard")
    os.mkfifo(tree / "fifo")
    with (tree / "sparse").open("wb") as file:
        file.seek(10 << 20)
        file.write(b"end")
    os.setxattr(tree / "hard", "user.note", b"kept")
    (tree / "decoder.py").chmod(0o2750)
    os.utime(tree / "decoder.py", ns=(10**18 + 1, 10**18 + 2))
    return tree


def facts(tree: Path) -> list[tuple[object, ...]]:
    """What a faithful copy has in common with the original."""
    found: list[tuple[object, ...]] = []
    for path in sorted(tree.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else None
        xattrs = {name: os.getxattr(path, name) for name in os.listxattr(path)} if path.is_file() else {}
        nlink = status.st_nlink
        found.append((path.relative_to(tree), oct(status.st_mode), nlink, status.st_mtime_ns, content, xattrs))
    return found


def test_cp_a(mounted: Mounted, source: Path) -> None:
    run("cp", "-a", source, mounted.path / "cp")
    assert facts(mounted.path / "cp") == facts(source)
    assert (mounted.path / "cp/sparse").stat().st_blocks <= 64


def test_tar(mounted: Mounted, source: Path, tmp_path: Path) -> None:
    run("tar", "--xattrs", "-C", source, "-cf", mounted.path / "t.tar", ".")
    (mounted.path / "tar").mkdir()
    run("tar", "--xattrs", "-C", mounted.path / "tar", "-xpf", mounted.path / "t.tar")
    assert facts(mounted.path / "tar") == facts(source)
    run("tar", "--compare", "-C", mounted.path / "tar", "-f", mounted.path / "t.tar")


def test_git_clone_commit_gc_fsck(mounted: Mounted, source: Path, tmp_path: Path) -> None:
    origin, clone = tmp_path / "origin", mounted.path / "clone"
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "safe.directory=*")
    run("cp", "-r", source / "mime", origin) if (source / "mime").exists() else run("cp", "-r", source, origin)
    for fifo in origin.rglob("fifo"):
        fifo.unlink()
    run("git", *identity, "init", "-q", "-b", "main", origin)
    run("git", *identity, "-C", origin, "add", ".")
    run("git", *identity, "-C", origin, "commit", "-qm", "first")
    run("git", *identity, "clone", "-q", f"file://{origin}", clone)
    (clone / "new").write_text("a change")
    run("git", *identity, "-C", clone, "add", ".")
    run("git", *identity, "-C", clone, "commit", "-qm", "second")
    run("git", *identity, "-C", clone, "gc", "-q")
    run("git", *identity, "-C", clone, "fsck", "--full", "--strict")
    assert run("git", *identity, "-C", clone, "status", "--porcelain") == ""
    assert run("git", *identity, "-C", clone, "log", "--format=%s") == "second\nfirst\n"


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_sqlite(mounted: Mounted, journal: str) -> None:
    path = mounted.path / f"{journal}.db"
    with sqlite3.connect(path) as one, sqlite3.connect(path) as two:
        assert one.execute(f"PRAGMA journal_mode={journal}").fetchone() == (journal,)
        one.execute("PRAGMA synchronous=FULL")
        one.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, v BLOB)")
        for number in range(300):
            one.execute("INSERT INTO t VALUES (?, ?)", (number, os.urandom(500)))
            one.commit()
        two.execute("DELETE FROM t WHERE k % 3 = 0")
        two.commit()
        assert one.execute("SELECT count(*) FROM t").fetchone() == (200,)
        assert one.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    one.close()
    two.close()


def test_rm_rf_during_find(mounted: Mounted, source: Path) -> None:
    run("cp", "-a", source, mounted.path / "doomed")
    finding = subprocess.Popen(
        ["find", mounted.path / "doomed", "-ls"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    run("rm", "-rf", mounted.path / "doomed")
    finding.wait(60)
    assert not (mounted.path / "doomed").exists()


def test_du_counts_no_holes(mounted: Mounted) -> None:
    with (mounted.path / "holes").open("wb") as file:
        file.truncate(1 << 30)
        file.write(b"x" * 4096)
    assert int(run("du", "-k", mounted.path / "holes").split()[0]) == 4
    assert int(run("du", "-k", "--apparent-size", mounted.path / "holes").split()[0]) == 1 << 20
