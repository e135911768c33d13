"""What may be wrong with the drives: restored as long as k good shards are left, refused or named beyond."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import trio

from ecfs.journal.record import Found, scan
from ecfs.rescue import main as program
from ecfs.shard import HEADER_LENGTH, block_crcs, build_header, parse_header, verify_shard
from tests.rescue.pools import PROGRAM, DiskPool, contents, put, rescue, seed_bytes, sync

MIB = 1 << 20
BLOCK = 65536
FILES = {"big": seed_bytes(9 * MIB, 1), "left": seed_bytes(150_000, 2), "right": seed_bytes(150_000, 3), "tiny": b"1"}
"""`left` and `right` share a stripe."""


class Sample:
    """A killed pool: a checkpoint with FILES, and three commits after it that only the journal has."""

    def __init__(self, path: Path) -> None:
        self.pool = DiskPool(path)
        trio.run(self._fill)
        self.files = {**FILES, "later": b"third", "much": seed_bytes(MIB, 4)}

    async def _fill(self) -> None:
        await self.pool.create()
        async with self.pool.mounted() as fs:
            await put(fs, b"big", FILES["big"])
            await sync(fs)
            await put(fs, b"left", FILES["left"])
            await put(fs, b"right", FILES["right"])
            await sync(fs)
            await put(fs, b"tiny", FILES["tiny"])
        async with self.pool.mounted(clean=False) as fs:
            await put(fs, b"later", b"first")
            await sync(fs)
            await put(fs, b"later", b"second")
            await put(fs, b"much", seed_bytes(MIB, 4))
            await sync(fs)
            await put(fs, b"later", b"third")
            await sync(fs)
            committed = self._shards()
            await put(fs, b"tiny", b"not committed")
            await put(fs, b"huge", seed_bytes(24 * MIB, 5))
            await put(fs, b"huge2", b"what lies before is sealed and put now")
            with trio.fail_after(10):
                while self._shards() < committed + 6 * 3:
                    await trio.sleep(0.01)

    def _shards(self) -> int:
        return sum(1 for drive in self.pool.drives for _ in (drive / "s").glob("*/*"))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return Sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture
def drives(sample: Sample, tmp_path: Path) -> list[Path]:
    """A copy to be damaged."""
    return sample.pool.copy(tmp_path / "drives")


def stripes_of(drive: Path, size: int) -> list[Path]:
    """Shards on a drive whose file has this many bytes."""
    return sorted(path for path in (drive / "s").glob("*/*") if path.stat().st_size == size)


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


FULL = 4096 + MIB
"""Bytes of a shard of a full stripe."""
SHARED = 4096 + 75_000
"""Of the stripe that `left` and `right` share: each fragment holds half of one."""


def test_a_disk_that_can_not_be_opened_is_left_out(
    sample: Sample,
    drives: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def failing(path: Any, *arguments: Any, **named: Any) -> int:
        if path == str(drives[2]):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return opened(path, *arguments, **named)

    opened = os.open
    monkeypatch.setattr(os, "open", failing)
    assert program([*map(str, drives), str(tmp_path / "out")]) == 0
    assert f"{drives[2]} is left out: its disk can't be read" in capsys.readouterr().out
    assert contents(tmp_path / "out") == sample.files


def test_shards_without_a_commit_are_ignored(sample: Sample, drives: list[Path], tmp_path: Path) -> None:
    result = rescue(drives, tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    assert contents(tmp_path / "out") == sample.files
    assert "missing or damaged" not in result.stdout


@pytest.mark.parametrize("lost", list(combinations(range(6), 2))[::4])
def test_flipped_bits_in_every_shard_of_two_drives(
    sample: Sample, drives: list[Path], lost: tuple[int, int], tmp_path: Path
) -> None:
    for number, path in enumerate(p for slot in lost for p in drives[slot].glob("[sc]/**/*") if p.is_file()):
        flip(path, [200, 4090, 4096 + number, path.stat().st_size - 1][number % 4])
    result = rescue(drives, tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    assert contents(tmp_path / "out") == sample.files


def test_damage_on_every_drive_but_in_different_places(sample: Sample, drives: list[Path], tmp_path: Path) -> None:
    for slot, drive in enumerate(drives):
        for path in stripes_of(drive, FULL):
            flip(path, 4096 + slot * BLOCK)
            flip(path, 4096 + (slot + 7) * BLOCK + 11)
    result = rescue(drives, tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    assert contents(tmp_path / "out") == sample.files
    assert "d0: " in result.stdout


SWAPPED = "of the same place of another stripe"


def full_shards(drives: Path) -> list[Path]:
    return [path for drive in sorted(drives.iterdir()) for path in stripes_of(drive, FULL)]


def same_place(one: Path, other: Path) -> bool:
    """Shards of different stripes that nothing but the header tells apart: right in themselves, of one index."""
    header, another = (parse_header(path.read_bytes()[:HEADER_LENGTH]) for path in (one, other))
    return header.index == another.index and header.content_hash != another.content_hash


def spoil_shard(how: str, drive: Path) -> None:
    first, second, *_ = stripes_of(drive, FULL)
    if how == "gone":
        shutil.rmtree(drive / "s")
    elif how == "a folder":
        first.unlink()
        first.mkdir()
    elif how == "of another stripe":
        shutil.copy(second, first)
    elif how == SWAPPED:
        shutil.copy(next(path for path in full_shards(drive.parent) if same_place(first, path)), first)
    else:
        os.truncate(first, {"cut": 70_000, "longer": FULL + 1, "empty": 0}[how])


@pytest.mark.parametrize("how", ["cut", "longer", "empty", "a folder", "of another stripe", "gone", SWAPPED])
def test_shards_that_are_none(sample: Sample, drives: list[Path], how: str, tmp_path: Path) -> None:
    spoil_shard(how, drives[1])
    spoil_shard(how, drives[4])
    result = rescue(drives, tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    assert contents(tmp_path / "out") == sample.files


def test_beyond_m_what_is_lost_is_named_and_left_out(sample: Sample, drives: list[Path], tmp_path: Path) -> None:
    """Three shards of one stripe without a good block: only that file is missing."""
    name = stripes_of(drives[0], FULL)[0].relative_to(drives[0])
    for drive in drives[:3]:
        for row in range(16):
            flip(drive / name, 4096 + row * BLOCK)
    result = rescue(drives, tmp_path / "out")
    assert result.returncode == 3
    assert "LOST, left out:\n  big: fewer than 4 good shards of s/" in result.stdout
    assert contents(tmp_path / "out") == {name: data for name, data in sample.files.items() if name != "big"}


def test_a_half_lost_stripe_gives_back_the_files_in_the_other_half(
    sample: Sample, drives: list[Path], tmp_path: Path
) -> None:
    """The first half of the shared stripe is data shards 0 and 1, the second one 2 and 3."""
    (number,) = {path.relative_to(drives[0]) for path in stripes_of(drives[0], SHARED)}
    counter = int(number.name, 16)
    for index in (0, 4, 5):
        flip(drives[(index + counter) % 6] / number, 4096)
    result = rescue(drives, tmp_path / "out")
    assert result.returncode == 3
    assert "left: fewer" in result.stdout
    assert contents(tmp_path / "out") == {name: data for name, data in sample.files.items() if name != "left"}


@pytest.mark.parametrize(("damaged", "lost"), [((4, 5), {"right"}), ((0, 4, 5), {"left", "right"})])
def test_a_shard_of_another_stripe_helps_nobody(
    sample: Sample, drives: list[Path], damaged: tuple[int, ...], lost: set[str], tmp_path: Path
) -> None:
    """Right in every byte, and in its place; too little is left to prove the whole by its hash."""
    (number,) = {path.relative_to(drives[0]) for path in stripes_of(drives[0], SHARED)}
    counter = int(number.name, 16)
    for index in damaged:
        flip(drives[(index + counter) % 6] / number, 4096)
        flip(drives[(index + counter) % 6] / number, 4096 + BLOCK)
    path = drives[(2 + counter) % 6] / number
    before, data = path.read_bytes(), seed_bytes(75_000, 9)
    header = parse_header(before[:HEADER_LENGTH])
    other = replace(header, stripe_id=header.stripe_id + 1, content_hash=bytes(32), block_crcs=block_crcs(data))
    path.write_bytes(build_header(other) + before[HEADER_LENGTH:4096] + data)
    assert verify_shard(path.read_bytes()) == other
    result = rescue(drives, tmp_path / "out")
    assert result.returncode == 3
    assert contents(tmp_path / "out") == {name: data for name, data in sample.files.items() if name not in lost}


def test_identity_damaged(sample: Sample, drives: list[Path], tmp_path: Path) -> None:
    """The superblock says as well which drive it is."""
    for drive in drives[:3]:
        flip(drive / "identity", 120)
    (drives[5] / "superblock").unlink()
    result = rescue(drives[:3] + drives[5:], tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    assert contents(tmp_path / "out") == sample.files


def test_newest_checkpoint_gone(sample: Sample, drives: list[Path], tmp_path: Path) -> None:
    """The older one and the journal lead to the same state (R8)."""
    for drive in drives[:3]:
        max((drive / "c").iterdir()).unlink()
    result = rescue(drives, tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    assert contents(tmp_path / "out") == sample.files


def test_every_checkpoint_gone(drives: list[Path], tmp_path: Path) -> None:
    for drive in drives[:3]:
        shutil.rmtree(drive / "c")
    result = rescue(drives, tmp_path / "out", "--accept-loss")
    assert result.returncode == 3
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


# ---- the journal -----------------------------------------------------------------------------------------------


def records(drive: Path) -> dict[int, tuple[Path, int]]:
    """Segment and offset of every valid record, by sequence."""
    found = {}
    for path in (drive / "j").iterdir():
        data = path.read_bytes()
        for each in scan(data, data[16:32], 1 << 30):
            if isinstance(each, Found):
                found[each.head.seq] = (path, each.offset)
    return found


def spoil(drives: Iterable[Path], seq: int) -> None:
    """Damage one commit's record on these drives."""
    for drive in drives:
        path, offset = records(drive)[seq]
        flip(path, offset + 300)


def newest(drives: Sequence[Path]) -> int:
    """Sequence of the newest commit."""
    return max(records(drives[0]))


def test_records_that_one_drive_each_still_has(sample: Sample, drives: list[Path], tmp_path: Path) -> None:
    last = newest(drives)
    for back in range(4):
        spoil([drive for slot, drive in enumerate(drives[:4]) if slot != back], last - back)
    result = rescue(drives[:4], tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    assert contents(tmp_path / "out") == sample.files


def test_a_gap_in_the_journal_is_refused(sample: Sample, drives: list[Path], tmp_path: Path) -> None:
    seq = newest(drives) - 1
    spoil(drives[:5], seq)
    result = rescue(drives[:5], tmp_path / "out")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert f"commit {seq} is missing" in result.stderr
    assert "give drive 5" in result.stderr
    assert not (tmp_path / "out").exists()
    assert rescue(drives, tmp_path / "out").returncode == 0
    assert contents(tmp_path / "out") == sample.files


def test_accepted_loss_goes_back_to_the_newest_complete_state(
    sample: Sample, drives: list[Path], tmp_path: Path
) -> None:
    spoil(drives, newest(drives) - 1)
    result = rescue(drives, tmp_path / "out", "--accept-loss")
    assert (result.returncode, result.stderr) == (0, "")
    assert contents(tmp_path / "out") == {**FILES, "later": b"first"}
    assert "going back, because commit" in result.stdout


def test_the_whole_journal_gone_is_noticed(drives: list[Path], tmp_path: Path) -> None:
    for drive in drives:
        shutil.rmtree(drive / "j")
    result = rescue(drives, tmp_path / "out")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "existed and no drive here has them" in result.stderr
    assert rescue(drives, tmp_path / "out", "--accept-loss").returncode == 0
    assert contents(tmp_path / "out") == FILES


# ---- which drives ------------------------------------------------------------------------------------------------


def test_names_and_order_do_not_matter(sample: Sample, drives: list[Path], tmp_path: Path) -> None:
    drives[0].rename(tmp_path / "x")
    drives[5].rename(drives[0])
    result = rescue([tmp_path / "x", drives[3], drives[0], drives[2]], tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    assert contents(tmp_path / "out") == sample.files


async def remount(pool: DiskPool, places: list[Path], name: bytes) -> None:
    async with pool.mounted(places=places, clean=False) as fs:
        await put(fs, name, name * 300_000)
        await sync(fs)


@pytest.mark.parametrize("stale", [0, 3])
def test_a_stale_drive_does_not_turn_back_time(sample: Sample, drives: list[Path], stale: int, tmp_path: Path) -> None:
    """Last week's clone is one of four: the others say what happened since."""
    old = tmp_path / "old"
    shutil.copytree(drives[stale], old)
    trio.run(remount, sample.pool, drives, b"since")
    fresh = [drive for slot, drive in enumerate(drives) if slot != stale]
    result = rescue([old, *fresh[:3]], tmp_path / "out")
    assert (result.returncode, "  since: fewer than 4 good shards" in result.stdout) == (3, True)
    assert contents(tmp_path / "out") == sample.files
    result = rescue([old, *fresh[:4]], tmp_path / "out4")
    assert (result.returncode, result.stderr) == (0, "")
    assert contents(tmp_path / "out4") == {**sample.files, "since": b"since" * 300_000}
    result = rescue([old, *fresh[:3], drives[stale]], tmp_path / "both")
    assert (result.returncode, "several are drive" in result.stdout) == (0, True)
    assert contents(tmp_path / "both") == contents(tmp_path / "out4")


def test_a_drive_of_another_pool_is_left_out(sample: Sample, drives: list[Path], tmp_path: Path) -> None:
    other = DiskPool(tmp_path / "other")
    trio.run(other.create)
    result = rescue([other.drives[0], *drives[:4], other.drives[5]], tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("it belongs to another pool") == 2
    assert contents(tmp_path / "out") == sample.files
    result = rescue([*other.drives[:4], *drives[:4]], tmp_path / "out2")
    assert (result.returncode, "different pools" in result.stderr) == (2, True)


def test_a_diverged_drive_can_not_vouch_for_the_newest_commits(
    sample: Sample, drives: list[Path], tmp_path: Path
) -> None:
    """A clone that was mounted elsewhere with three others has an epoch that this pool's history does not have."""
    elsewhere = sample.pool.copy(tmp_path / "elsewhere")
    trio.run(remount, sample.pool, elsewhere, b"elsewhere")
    trio.run(remount, sample.pool, drives, b"here")
    trio.run(remount, sample.pool, drives, b"and here")
    result = rescue([*drives[:3], elsewhere[4]], tmp_path / "out")
    assert (result.returncode, "diverged" in result.stderr) == (3, True)
    result = rescue([*drives[:4], elsewhere[4]], tmp_path / "out")
    assert result.returncode == 0
    assert set(contents(tmp_path / "out")) == {*sample.files, "here", "and here"}


def test_too_few_drives(drives: list[Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    result = rescue([*drives[:3], empty], tmp_path / "out")
    assert (result.returncode, result.stderr.count("\n")) == (3, 1)
    assert "only 3 of 6 drives are here, 4 are needed: give drive 3 or 4 or 5, too" in result.stderr


@pytest.mark.parametrize(("k", "m"), [(2, 1), (8, 3)])
def test_other_geometries(k: int, m: int, tmp_path: Path) -> None:
    pool = DiskPool(tmp_path / "pool", k, m)
    files = {"a": seed_bytes(5 * MIB + 1, 9), "b": b"b"}

    async def fill() -> None:
        await pool.create()
        async with pool.mounted(clean=False) as fs:
            for name, data in files.items():
                await put(fs, name.encode(), data)
            await sync(fs)

    trio.run(fill)
    for kept in (pool.drives[m:], pool.drives[:k]):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        assert rescue(kept, tmp_path / "out").returncode == 0
        assert contents(tmp_path / "out") == files


# ---- usage -------------------------------------------------------------------------------------------------------


def test_bad_usage_is_one_line(sample: Sample, drives: list[Path], tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    out = tmp_path / "out"
    bad: list[tuple[list[Path | str], Path | str, str]] = [
        ([], out, "give the drives and OUTDIR"),
        ([drives[0], "--no-such-option"], out, "--no-such-option"),
        ([tmp_path / "nothing"], out, "No such file or directory"),
        ([*drives[:4]], full, "is not empty"),
        ([*drives[:4]], full / "file", "can't be used as OUTDIR"),
        ([*drives[:4]], tmp_path / "no" / "where", "can't be used as OUTDIR"),
        ([*drives[:4]], drives[1] / "s" / "out", "lie within each other"),
        ([full], out, "none of these 1 directories is a drive"),
    ]
    for places, target, says in bad:
        result = rescue(places, target)
        assert result.returncode == (3 if says.startswith("none") else 2), result
        assert (result.stderr.count("\n"), says in result.stderr) == (1, True), result.stderr
    assert not out.exists()


def test_a_mounted_pool_is_refused(drives: list[Path], tmp_path: Path) -> None:
    held = os.open(drives[2], os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    result = rescue(drives, tmp_path / "out")
    os.close(held)
    assert result.returncode == 2
    assert "d2 is in use: unmount the pool first" in result.stderr


# ---- the copy on every drive -------------------------------------------------------------------------------------


def test_every_drive_brings_the_program_along(sample: Sample, drives: list[Path], tmp_path: Path) -> None:
    assert all((drive / "rescue.py").read_bytes() == PROGRAM.read_bytes() for drive in drives)
    result = rescue(drives[1:5], tmp_path / "out", program=drives[5] / "rescue.py")
    assert result.returncode == 0
    assert contents(tmp_path / "out") == sample.files


def test_a_missing_or_other_copy_is_written_anew_at_the_next_opening(
    sample: Sample, drives: list[Path], tmp_path: Path
) -> None:
    (drives[0] / "rescue.py").unlink()
    (drives[1] / "rescue.py").write_text("of an older version")
    before = (drives[2] / "rescue.py").stat()
    trio.run(remount, sample.pool, drives, b"x")
    assert all((drive / "rescue.py").read_bytes() == PROGRAM.read_bytes() for drive in drives)
    assert (drives[2] / "rescue.py").stat().st_mtime_ns == before.st_mtime_ns


def test_r11_a_copy_of_a_drive_that_was_used_elsewhere_does_not_choose_the_state(
    sample: Sample, tmp_path: Path
) -> None:
    """The copy has newer epochs, but only one drive knows them."""
    elsewhere = DiskPool(tmp_path / "elsewhere")
    shutil.rmtree(elsewhere.path, ignore_errors=True)
    shutil.copytree(sample.pool.path, elsewhere.path)
    elsewhere.pool_id = sample.pool.pool_id

    async def live_on() -> None:
        for number in range(4):
            async with elsewhere.mounted(clean=False) as fs:
                await put(fs, b"elsewhere%d" % number, b"x")
                await sync(fs)

    trio.run(live_on)
    drives = sample.pool.copy(tmp_path / "drives")
    shutil.rmtree(drives[1])
    shutil.copytree(elsewhere.drives[1], drives[1])
    result = rescue(drives, tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert contents(tmp_path / "out") == sample.files
