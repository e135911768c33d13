"""Bad input for every command: one clear line, exit 2, no traceback, nothing changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ecfs.cli import COMMANDS
from tests.programs import fingerprint
from tests.unit.cli.conftest import Run

BAD = [
    ("nonsense", "No such command"),
    ("--nonsense", "No such option"),
    ("create", "Missing argument"),
    ("create drives", "is a pool already"),
    ("create new --data 2 --parity 2", "2 data + 2 parity is not possible"),
    ("create new --data 0", "0 is not in the range"),
    ("create new --data x", "'x' is not a valid integer"),
    ("create new --data 40 --parity 2", "at most 32 drives"),
    ("create new a b c", "needs 6 drives, 3 are given"),
    ("create new a a b c d e", "are the same drive"),
    ("create new a a/b b c d e", "lie within each other"),
    ("create new s3://b b c d e f", "give s3://BUCKET/PREFIX"),
    ("create new host:70000 b c d e f", "give HOST:PORT of a storage node"),
    ("node d --listen nonsense", "is no address to listen on"),
    ("node d --listen 0.0.0.0:9001", "can be reached from other machines"),
    ("node d --listen 127.0.0.1:0 --tls nowhere", "can't be read"),
    ("certs new ../up", "is no host"),
    ("probe ./directory", "is no storage node"),
    ("create new ftp://x b c d e f", "unknown kind of drive"),
    ("create missing/new", "does not exist"),
    ("create file", "not valid TOML"),
    ("create drives/pool.toml", "is a pool already"),
    ("create " + "x" * 300, "File name too long"),
    ("create nowhere.toml", "does not exist"),
    ("create drives/pool.toml a b c d e f", "lists the drives itself"),
    ("create new drives/d0 b c d e f", "is not empty"),
    ("create missing-parent new/a b c d e f", "does not exist"),
    ("mount", "Missing argument"),
    ("mount drives", "Missing argument 'MOUNTPOINT'"),
    ("mount nowhere mnt", "does not exist: make a pool with: ecfs create"),
    ("mount empty mnt --no-create", "is not a pool"),
    ("mount file mnt", "not valid TOML"),
    ("mount drives file", "is not a directory"),
    ("mount drives missing/mnt", "can't be made"),
    ("mount drives drives", "lie within each other"),
    ("mount drives drives/d0", "lie within each other"),
    ("mount drives .", "lie within each other"),
    ("mount drives /proc", "is a mount point already"),
    ("mount drives mnt -o writebak", "unknown mount option 'writebak': did you mean writeback?"),
    ("mount drives mnt -o nonsense", "known are"),
    ("umount", "Missing argument"),
    ("umount mnt", "not mounted"),
    ("umount drives", "is not mounted"),
    ("umount nowhere", "not mounted"),
    ("sync mnt", "not mounted"),
    ("status nowhere", "does not exist"),
    ("status empty", "is not a pool"),
    ("status file", "not valid TOML"),
    ("status drives extra", "unexpected extra argument"),
    ("status drives --jsno", "No such option"),
    ("scrub nowhere", "does not exist"),
    ("scrub empty", "is not a pool"),
    ("scrub drives --rate fast", "is not a rate"),
    ("scrub drives --rate 0", "is not a rate"),
    ("scrub drives --rate -5", "is not a rate"),
    ("scrub drives --pause", "is not mounted"),
    ("scrub drives --resume", "is not mounted"),
    ("scrub drives --cancel", "is not mounted"),
    ("scrub drives --pause --rate 5M", "goes with neither --dry-run nor --rate"),
    ("scrub drives --cancel --dry-run", "goes with neither --dry-run nor --rate"),
    ("status drives --json --watch", "--watch goes without --json"),
    ("events nowhere", "does not exist"),
    ("events empty", "is not a pool"),
    ("events drives --limit 0", "0 is not in the range"),
    ("events drives --limit 9999", "9999 is not in the range"),
    ("events drives --follow", "is not mounted"),
    ("alert-test nowhere", "does not exist"),
    ("alert-test empty", "is not a pool"),
    ("alert-test drives", "names no command"),
    ("drill nowhere", "does not exist"),
    ("drill empty", "is not a pool"),
    ("drill drives --rate 0", "is not a rate"),
    ("drill drives extra", "unexpected extra argument"),
    ("replace drives", "Missing argument 'SLOT'"),
    ("replace drives x new", "'x' is not a valid integer"),
    ("replace drives -1 new", "No such option"),
    ("replace drives 0", "Missing argument 'URL'"),
    ("replace drives 0 NEW_PLACE", "type that, such as /mnt/disk7/ecfs"),
    ("replace drives 0 s3://b", "give s3://BUCKET/PREFIX"),
    ("replace empty 0 new", "is not a pool"),
    ("put drives", "Missing argument 'LOCAL'"),
    ("put drives nowhere", "No such file or directory"),
    ("put drives mnt", "use -r"),
    ("put drives file ../x", "without . and .."),
    ("put drives file no/such/place", "No such file or directory"),
    ("put drives file nowhere/", "no directory nowhere/"),
    ("put empty file", "is not a pool"),
    ("get drives", "Missing argument 'REMOTE'"),
    ("get drives nowhere", "no such file in the pool"),
    ("get drives /", "use -r"),
    ("get drives ../../etc/passwd", "without . and .."),
    ("ls drives nowhere", "no such file in the pool"),
    ("ls nowhere", "does not exist"),
    ("rm drives", "Missing argument 'PATH...'"),
    ("rm drives /", "the root of a pool can't be removed"),
    ("rm drives nowhere", "no such file in the pool"),
    ("demo extra", "unexpected extra argument"),
]

OPENS = {"put", "get", "ls", "rm", "replace"}
"""These must open the pool to see what is wrong, which leaves a record of the opening in it."""


@pytest.fixture(autouse=True)
def things(here: Path) -> None:
    (here / "empty").mkdir()
    (here / "file").write_text("this is [ no TOML")


@pytest.mark.parametrize(("line", "text"), BAD)
def test_bad_input_is_one_line_and_exit_2(line: str, text: str, here: Path, run: Run) -> None:
    before = fingerprint(here)
    ran = run(*line.split())
    assert ran.status == 2, ran
    assert text in ran.err, ran.err
    assert ran.err.startswith("ecfs: ")
    assert ran.err.count("\n") == 1
    assert not ran.out
    if line.split()[0] not in OPENS:
        assert fingerprint(here) == before


def test_every_command_has_bad_input_in_the_table() -> None:
    assert {line.split()[0] for line, _ in BAD} >= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, run: Run) -> None:
    ran = run(command, "--help")
    assert ran.status == 0
    assert "Usage: ecfs " + command in ran.out


def test_without_a_command_the_help_is_shown(run: Run) -> None:
    ran = run()
    assert ran.status == 2
    assert all(f"  {command} " in ran.out for command in COMMANDS)


def test_without_an_argument_and_without_a_pool(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here / "empty")
    for command in ("status", "scrub"):
        ran = run(command)
        assert (ran.status, ran.err.count("\n")) == (2, 1)
        assert "no pool is mounted and ./drives is none" in ran.err


@pytest.mark.parametrize(("device", "why"), [("nowhere", "load the kernel's"), ("file", "its mode keeps")])
def test_without_fuse_the_reason_is_named(
    device: str, why: str, here: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuse, access = str(here / device), os.access
    monkeypatch.setattr("ecfs.mount.planning.FUSE", fuse)
    monkeypatch.setattr("os.access", lambda path, *rest, **more: path != fuse and access(path, *rest, **more))
    ran = run("mount", "drives", "mnt")
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert why in ran.err


def test_a_bug_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(argument: str | None) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("ecfs.mount.locate.find_target", broken)
    ran = run("status")
    assert ran.status == 2
    assert ran.err == ("ecfs: unexpected error, please report it (ZeroDivisionError: oops); ECFS_DEBUG=1 shows where\n")
    monkeypatch.setenv("ECFS_DEBUG", "1")
    assert "Traceback" in run("status").err
