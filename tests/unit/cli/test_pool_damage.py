"""Every kind of damage to a pool: what the commands say, that it is one line, and that looking changes nothing.

status shows whatever can be known and ends with 0, 1 or 3; what opens a pool for writing refuses with 2 or 3.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ecfs.cli import main
from ecfs.pool.sealed import seal_body
from tests.programs import fingerprint, place
from tests.unit.cli.conftest import Ran, Run

Damage = Callable[[Path], None]


def without(*slots: int) -> Damage:
    def damage(drives: Path) -> None:
        for slot in slots:
            shutil.rmtree(drives / f"d{slot}")

    return damage


def empty(*slots: int) -> Damage:
    def damage(drives: Path) -> None:
        for slot in slots:
            shutil.rmtree(drives / f"d{slot}")
            (drives / f"d{slot}").mkdir()

    return damage


def in_blob(name: str, *slots: int) -> Damage:
    """One byte flipped in the middle."""

    def damage(drives: Path) -> None:
        for slot in slots:
            path = drives / f"d{slot}" / name
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)

    return damage


def blob_is(name: str, data: bytes, *slots: int) -> Damage:
    def damage(drives: Path) -> None:
        for slot in slots:
            (drives / f"d{slot}" / name).write_bytes(data)

    return damage


def pool_file(old: str, new: str) -> Damage:
    def damage(drives: Path) -> None:
        text = (drives / "pool.toml").read_text()
        assert old in text
        (drives / "pool.toml").write_text(text.replace(old, new, 1))

    return damage


def pool_file_is(data: bytes) -> Damage:
    def damage(drives: Path) -> None:
        (drives / "pool.toml").write_bytes(data)

    return damage


def newer(*slots: int) -> Damage:
    """An identity that only a later version understands."""
    return blob_is("identity", seal_body(b"identity", 9, b'{"something":"new"}'), *slots)


def swapped(a: int, b: int) -> Damage:
    def damage(drives: Path) -> None:
        (drives / f"d{a}").rename(drives / "aside")
        (drives / f"d{b}").rename(drives / f"d{a}")
        (drives / "aside").rename(drives / f"d{b}")

    return damage


def copied(source: int, target: int) -> Damage:
    def damage(drives: Path) -> None:
        shutil.rmtree(drives / f"d{target}")
        shutil.copytree(drives / f"d{source}", drives / f"d{target}")

    return damage


def foreign(slot: int) -> Damage:
    def damage(drives: Path) -> None:
        assert main(["create", str(drives.parent / "other")]) == 0
        shutil.rmtree(drives / f"d{slot}")
        shutil.copytree(drives.parent / "other" / "d0", drives / f"d{slot}")
        shutil.rmtree(drives.parent / "other")

    return damage


def file_for(slot: int) -> Damage:
    def damage(drives: Path) -> None:
        shutil.rmtree(drives / f"d{slot}")
        (drives / f"d{slot}").write_text("not a directory")

    return damage


def loop_for(slot: int) -> Damage:
    def damage(drives: Path) -> None:
        shutil.rmtree(drives / f"d{slot}")
        (drives / f"d{slot}").symlink_to(f"d{slot}")

    return damage


def partly(slot: int) -> Damage:
    def damage(drives: Path) -> None:
        (drives / f"d{slot}" / "identity").unlink()
        (drives / f"d{slot}" / "keep-me").write_text("mine")

    return damage


def no_checkpoints(*slots: int) -> Damage:
    def damage(drives: Path) -> None:
        for slot in slots:
            shutil.rmtree(drives / f"d{slot}" / "c")
            (drives / f"d{slot}" / "c").mkdir()

    return damage


VISIBLE: dict[str, tuple[Damage, int, str]] = {
    "nothing": (lambda drives: None, 0, "healthy"),
    "swapped": (swapped(0, 5), 0, "healthy"),
    "one deleted": (without(2), 1, "drive 2 is absent: there is no directory"),
    "two deleted": (without(0, 5), 1, "if one more drive fails before this is repaired, data is lost"),
    "three deleted": (without(0, 1, 2), 3, "3 of 6 drives are there, 4 are needed"),
    "all deleted": (without(*range(6)), 3, "0 of 6 drives are there"),
    "all empty, as unmounted disks are": (empty(*range(6)), 3, "empty: is its disk mounted?"),
    "one empty": (empty(4), 1, "empty: is its disk mounted?"),
    "a file for a drive": (file_for(1), 1, "drive 1 is"),
    "a link to itself for a drive": (loop_for(1), 1, "drive 1 is"),
    "a foreign drive": (foreign(3), 1, "drive 3 is wrong: belongs to another pool"),
    "a copy of another drive": (copied(0, 1), 1, "two drives have this identity"),
    "partly deleted": (partly(4), 1, "partly deleted"),
    "one identity damaged": (in_blob("identity", 5), 1, "identity damaged"),
    "three identities damaged": (in_blob("identity", 1, 3, 5), 3, "identity damaged"),
    "identity is empty": (blob_is("identity", b"", 0), 1, "identity damaged"),
    "identity is rubbish": (blob_is("identity", os.urandom(3000), 0), 1, "identity damaged"),
    "one superblock damaged": (in_blob("superblock", 0), 0, "hash does not match"),
    "all superblocks damaged": (in_blob("superblock", *range(6)), 3, "no drive that is here has a readable superblock"),
    "two checkpoints gone": (no_checkpoints(0, 1), 0, "healthy"),
    "all checkpoints gone": (no_checkpoints(*range(6)), 3, "no checkpoint can be loaded"),
}
"""What is wrong → what to do to the pool, exit status of `ecfs status`, what it says."""

REFUSED: dict[str, tuple[Damage, int, str]] = {
    "newer format": (newer(2), 2, "this ecfs knows 1: use a newer ecfs"),
    "no TOML": (pool_file_is(b"[["), 2, "not valid TOML"),
    "no text": (pool_file_is(b"\xff\xfe\0"), 2, "not valid TOML"),
    "empty pool file": (pool_file_is(b""), 2, "needs a [pool] table"),
    "unknown key": (pool_file("stripe_kib", "stripe_kb"), 2, "did you mean 'stripe_kib'?"),
    "text for a number": (pool_file("data = 4", 'data = "four"'), 2, "data must be a whole number"),
    "impossible geometry": (pool_file("parity = 2", "parity = 5"), 2, "is not possible"),
    "too few drives listed": (pool_file("data = 4", "data = 5"), 2, "needs drives with slots 0 to 6"),
    "a drive listed twice": (pool_file('"d1"', '"d0"'), 2, "is listed twice"),
    "an empty url": (pool_file('"d1"', '""'), 2, "drive 1 needs a url"),
    "an id that is none": (pool_file('id = "', 'id = "xyz'), 2, "id"),
    "a number for the id": (pool_file('id = "', 'id = 7 # "'), 2, "id"),
    "an unknown kind of drive": (pool_file('"d1"', '"ftp://x"'), 2, "unknown kind of drive"),
    "one place under two names": (pool_file('"d1"', '"./d0"'), 2, "are the same drive"),
    "a stripe of no size": (pool_file("stripe_kib = 4096", "stripe_kib = 0"), 2, "stripe_kib"),
    "a stripe of absurd size": (pool_file("stripe_kib = 4096", "stripe_kib = 99999999"), 2, "stripe_kib"),
    "more drives needed than there are": (
        pool_file("stripe_kib = 4096", "stripe_kib = 4096\nmin_write_drives = 7"),
        2,
        "min_write_drives",
    ),
}


@pytest.mark.parametrize("name", VISIBLE)
def test_status_shows_it_and_changes_nothing(name: str, here: Path, run: Run) -> None:
    damage, status, text = VISIBLE[name]
    damage(here / "drives")
    before = fingerprint(here)
    ran = run("status")
    assert (ran.status, ran.err) == (status, "")
    assert text in ran.out, ran.out
    as_json = run("status", "--json")
    assert as_json.status == status
    shown = json.loads(as_json.out)
    assert shown["schema"] == 1
    assert shown["state"] == {0: "healthy", 1: "degraded", 3: "failed"}[status]
    assert [drive["slot"] for drive in shown["drives"]] == list(range(6))
    assert fingerprint(here) == before


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("command", ["status", "scrub", "mount", "ls"])
def test_what_may_not_be_opened_is_refused(name: str, command: str, here: Path, run: Run) -> None:
    damage, status, text = REFUSED[name]
    damage(here / "drives")
    before = fingerprint(here)
    ran = run_it(here, command, run)
    assert ran.status == status, ran
    assert text in ran.err
    assert (ran.out, ran.err.count("\n")) == ("", 1)
    assert_only_notes(before, fingerprint(here))


TOO_FEW = [name for name, (_, status, _) in VISIBLE.items() if status == 3]


@pytest.mark.parametrize("name", TOO_FEW)
@pytest.mark.parametrize("command", ["scrub", "mount"])
def test_too_little_left_is_refused_and_left_alone(name: str, command: str, here: Path, run: Run) -> None:
    VISIBLE[name][0](here / "drives")
    before = fingerprint(here)
    ran = run_it(here, command, run)
    assert ran.status in (2, 3), ran
    assert ran.err.startswith("ecfs: ")
    assert (ran.out, ran.err.count("\n")) == ("", 1)
    assert_only_notes(before, fingerprint(here))


def run_it(here: Path, command: str, run: Run) -> Ran:
    """mount in a process of its own: it forks a daemon, and pytest must not be forked."""
    if command != "mount":
        return run(command, "drives")
    with place(here) as elsewhere:
        process = elsewhere.start("mount", "drives", "mnt")
        out, err = process.communicate(timeout=60)
        assert not elsewhere.daemons()
    return Ran(process.returncode, out, err)


def assert_only_notes(before: dict[str, str], after: dict[str, str]) -> None:
    """A refused opening may leave the note of who had the lock, and a fence; nothing else."""
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert {Path(name).name for name in changed} <= {"lock", "fence"}, changed
