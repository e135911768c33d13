"""Programs that copy, pack and build trees, on a real pool: what comes back is what went in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.mount.real import LIBRARY, Pool, call, listing
from tests.programs import ROOT

pytestmark = pytest.mark.mount

HOLE = 64 << 20


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A tree with all that a faithful copy must keep."""
    folder = tmp_path / "original"
    (folder / "deep/er").mkdir(parents=True)
    (folder / "file").write_bytes(os.urandom(70_000))
    os.link(folder / "file", folder / "deep/hard link")
    (folder / "deep/link").symlink_to("../file")
    os.mkfifo(folder / "fifo")
    (folder / os.fsdecode(b"any \xff\xfe\n byte")).write_bytes(b"odd name")
    with (folder / "sparse").open("wb") as file:
        file.write(b"start")
        file.truncate(HOLE)
    os.setxattr(folder / "file", "user.note", b"\0kept")
    call("setfacl", "-m", "u:1000:rw,g:1001:r", folder / "file")
    call("setfacl", "-d", "-m", "u:1000:rwx", folder / "deep")
    (folder / "deep/er").chmod(0o2750)
    if os.getuid() == 0:
        os.chown(folder / "file", 1000, 1001)
        (folder / "program").write_bytes(b"#!/bin/sh\n")
        (folder / "program").chmod(0o6755)
    for path in folder.rglob("*"):  # rsync takes times of one second for equal
        os.utime(path, ns=(10**18 + 1, 10**18 + 2), follow_symlinks=False)
    return folder


def facts(folder: Path) -> list[object]:
    """Everything that is to be equal, hard links, ACLs, owners and extended attributes included."""
    acls = call("getfacl", "-R", "-n", "--absolute-names", ".", cwd=folder)
    found: list[object] = [*listing(folder), *sorted(acls.split("\n\n"))]
    for path in sorted(folder.rglob("*"), key=os.fsencode):
        status = path.lstat()
        names = sorted(os.listxattr(path, follow_symlinks=False))
        found.append((status.st_nlink, status.st_uid, status.st_gid, names))
        if path.is_file() and not path.is_symlink():
            found.append(path.read_bytes())
    return found


def assert_sparse(path: Path) -> None:
    assert path.stat().st_size == HOLE
    assert path.stat().st_blocks * 512 <= 8192, path


def cp(source: Path, target: Path) -> None:
    call("cp", "-a", "--sparse=always", "--reflink=auto", source, target)


def rsync(source: Path, target: Path) -> None:
    call("rsync", "-aHAXS", "--fake-super" if os.getuid() else "--numeric-ids", f"{source}/", target)


def tar(source: Path, target: Path) -> None:
    target.mkdir()
    packed = target.with_suffix(".tar")
    call("tar", "--acls", "--xattrs", "--xattrs-include=*", "-S", "-C", source, "-cf", packed, ".")
    call("tar", "--acls", "--xattrs", "--xattrs-include=*", "-S", "-C", target, "-xpf", packed)
    call("tar", "-C", target, "--compare", "-f", packed)


@pytest.mark.parametrize(
    "copy", [pytest.param(cp, marks=pytest.mark.soak), tar, pytest.param(rsync, marks=pytest.mark.soak)]
)
def test_there_and_back_without_two_drives_and_after_a_scrub(copy, pool: Pool, original: Path, tmp_path: Path) -> None:
    if copy is rsync and not shutil.which("rsync"):
        pytest.skip("rsync is missing")
    copy(original, pool.mnt / "there")
    pool.remount()
    assert facts(pool.mnt / "there") == facts(original)
    pool.lose(1, 4)
    copy(pool.mnt / "there", tmp_path / "back")
    assert facts(tmp_path / "back") == facts(original)
    pool.ecfs("scrub", "mnt")
    pool.lose(0, 2)
    pool.remount()
    assert facts(pool.mnt / "there") == facts(original)
    assert_sparse(pool.mnt / "there/sparse")


def test_rsync_changes_a_file_in_place(pool: Pool, tmp_path: Path) -> None:
    if not shutil.which("rsync"):
        pytest.skip("rsync is missing")
    source = tmp_path / "source"
    source.write_bytes(os.urandom(5 << 20))
    call("rsync", source, pool.mnt / "target")
    inode = (pool.mnt / "target").stat().st_ino
    with source.open("r+b") as file:
        for at in range(0, 5 << 20, 600_000):
            os.pwrite(file.fileno(), b"changed", at)
    call("rsync", "--checksum", "--inplace", "--no-whole-file", source, pool.mnt / "target")
    assert (pool.mnt / "target").read_bytes() == source.read_bytes()
    assert (pool.mnt / "target").stat().st_ino == inode


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_a_virtual_environment_with_pip_installs_and_removes_a_package(pool: Pool) -> None:
    """Without an index: pip itself comes with Python, and the wheel is made here, of the standard library."""
    environment = pool.mnt / "venv"
    call(sys.executable, "-m", "venv", environment)
    wheel = make_wheel(pool.mnt)
    pool.lose(0, 1)
    pip = (environment / "bin/python", "-m", "pip", "--disable-pip-version-check")
    call(*pip, "install", "--no-index", wheel)
    pool.ecfs("scrub", "mnt")
    pool.remount()
    call(*pip, "check")
    assert "ours 1.0" in " ".join(call(*pip, "list").split())
    assert call(environment / "bin/python", "-c", "import ours.decoder, ssl; print(ours.loads('[42]'))") == "[42]\n"
    site = next(environment.glob("lib/python*/site-packages"))
    assert list(site.glob("ours/__pycache__/decoder.*.pyc"))
    call(*pip, "uninstall", "-y", "ours")
    assert not list(site.glob("ours*"))


def make_wheel(folder: Path) -> Path:
    path = folder / "ours-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for source in sorted((LIBRARY / "json").glob("*.py")):
            wheel.writestr(f"ours/{source.name}", source.read_text().replace("from json", "from ours"))
        wheel.writestr("ours-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: ours\nVersion: 1.0\n")
        tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr("ours-1.0.dist-info/WHEEL", tags)
        wheel.writestr("ours-1.0.dist-info/RECORD", "")
    return path


@pytest.mark.soak
@pytest.mark.timeout(2400)
def test_pip_fetches_a_package_and_gcc_builds_it(pool: Pool) -> None:
    """A hundred files of C that somebody else wrote, built and installed on the folder."""
    environment = pool.mnt / "venv"
    call(sys.executable, "-m", "venv", environment)
    command: list[str | Path] = [
        environment / "bin/python",
        "-m",
        "pip",
        "install",
        "--no-binary",
        "zstandard",
        "zstandard",
        "requests",
    ]
    build = os.environ | {"TMPDIR": str(pool.mnt), "PIP_CACHE_DIR": str(pool.mnt / "cache")}
    installing = subprocess.Popen(command, env=build, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    pool.lose(2, 3)
    said, _ = installing.communicate(timeout=1500)
    if "No matching distribution found" in said:
        pytest.skip("no package index can be reached")
    assert installing.returncode == 0, said
    pool.ecfs("scrub", "mnt")
    pool.remount()
    program = "import requests, zstandard as z; d = bytes(10**6); print(z.decompress(z.compress(d)) == d)"
    assert call(environment / "bin/python", "-c", program) == "True\n"


def test_gcc_builds_a_library_and_a_program(pool: Pool) -> None:
    parts = 12
    for number in range(parts):
        (pool.mnt / f"part{number}.c").write_text(f"int part{number}(int x) {{ return x + {number}; }}\n")
    calls = "".join(f"x = part{number}(x);" for number in range(parts))
    declared = "".join(f"int part{number}(int);" for number in range(parts))
    (pool.mnt / "main.c").write_text(f'#include <stdio.h>\n{declared}int main(){{int x=0;{calls}printf("%d\\n",x);}}')
    (pool.mnt / "Makefile").write_text(
        "all: program\nlib.a: $(patsubst %.c,%.o,$(wildcard part*.c))\n\tar rcs $@ $^\n"
        "program: main.o lib.a\n\t$(CC) -o $@ $^\n"
    )
    call("make", "-j4", cwd=pool.mnt)
    assert call(pool.mnt / "program") == f"{sum(range(parts))}\n"
    assert "up to date" in call("make", "-q", "-n", "all", cwd=pool.mnt) + "up to date"
    (pool.mnt / "part3.c").touch()
    assert "part3.o" in call("make", cwd=pool.mnt)


@pytest.mark.core
def test_git_of_many_commits_clone_gc_and_fsck(pool: Pool, tree: Path) -> None:
    repository, clone = pool.mnt / "repository", pool.mnt / "clone"
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "gc.auto=0")
    shutil.copytree(tree / "json", repository)
    call(*git, "init", "-q", "-b", "main", cwd=repository)
    for number in range(5):
        (repository / "counter").write_text(str(number))
        call(*git, "add", ".", cwd=repository)
        call(*git, "commit", "-q", "-m", f"number {number}", cwd=repository)
    call(*git, "clone", "-q", "--no-local", repository, clone)
    pool.lose(2, 5)
    call(*git, "gc", "-q", "--aggressive", cwd=clone)
    call(*git, "fsck", "--full", "--strict", cwd=clone)
    pool.ecfs("scrub", "mnt")
    pool.remount()
    for folder in (repository, clone):
        call(*git, "fsck", "--full", "--strict", cwd=folder)
        assert call(*git, "status", "--porcelain", cwd=folder) == ""
        assert len(call(*git, "log", "--format=%s", cwd=folder).splitlines()) == 5


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_git_of_a_real_repository_while_drives_are_lost(pool: Pool, tmp_path: Path) -> None:
    """The history of this project: cloned, branched, rebased, collected and checked on the folder."""
    if not (ROOT / ".git").exists():
        pytest.skip("these sources are no git checkout")
    config = tmp_path / "gitconfig"
    config.write_text("[safe]\n\tdirectory = *\n[user]\n\tname = t\n\temail = t@t\n[gc]\n\tauto = 0\n")
    clone = pool.mnt / "clone"

    def git(*arguments: str | Path) -> str:
        return call("env", f"GIT_CONFIG_GLOBAL={config}", "git", *arguments, cwd=pool.mnt)

    git("clone", "-q", "--no-local", ROOT, clone)
    inside = ("-C", clone)
    before = git(*inside, "log", "--format=%H %T")
    pool.lose(0, 4)
    git(*inside, "checkout", "-q", "-b", "work", "HEAD~2")
    (clone / "new").write_text("a change\n")
    git(*inside, "add", ".")
    git(*inside, "commit", "-q", "-m", "a change")
    git(*inside, "rebase", "-q", "--onto", before.split()[0], "HEAD~1")
    git(*inside, "stash", "list")
    git(*inside, "gc", "-q", "--prune=now")
    pool.ecfs("scrub", "mnt")
    pool.lose(1, 5)
    pool.remount()
    git(*inside, "fsck", "--full", "--strict")
    assert git(*inside, "log", "--format=%H %T", "HEAD~1") == before
    assert git(*inside, "status", "--porcelain") == ""


def test_qemu_img_makes_and_checks_an_image(pool: Pool) -> None:
    if not shutil.which("qemu-img"):
        pytest.skip("qemu-img is missing (Debian package qemu-utils)")
    for preallocation in ("off", "metadata", "falloc", "full"):
        image = pool.mnt / f"{preallocation}.qcow2"
        call("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"preallocation={preallocation}", image, "8M")
        call("qemu-img", "check", "-q", image)
    raw = pool.mnt / "raw"
    call("qemu-img", "convert", "-O", "raw", pool.mnt / "full.qcow2", raw)
    call("qemu-img", "compare", "-q", raw, pool.mnt / "off.qcow2")


def test_rm_rf_while_find_reads(pool: Pool, tree: Path) -> None:
    call("cp", "-r", tree, pool.mnt / "doomed")
    finding = subprocess.Popen(["find", pool.mnt / "doomed", "-ls"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    call("rm", "-rf", pool.mnt / "doomed")
    _, errors = finding.communicate(timeout=60)
    assert all(b"No such file" in line for line in errors.splitlines())
    assert not (pool.mnt / "doomed").exists()
