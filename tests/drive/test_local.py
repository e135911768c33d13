"""Directories as drives: modes, syncs, hung disks, errors of the disk, files that are not ecfs's."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from ecfs.drive import local_puts
from ecfs.drive.base import MAX_BLOB, Writer
from ecfs.drive.begun import Gathering
from ecfs.drive.held import write_all
from ecfs.drive.local import LocalDrive
from ecfs.drive.local_threads import Threads
from ecfs.errors import (
    DriveFullError,
    DriveLockedError,
    DriveUnreachableError,
    ShardCorruptError,
    ShardMissingError,
)

KEY = "s/00000002/00000000"
SEGMENT = "j/00000002.000000"


@pytest.fixture
async def drive(tmp_path: Path) -> AsyncIterator[LocalDrive]:
    drive = await make_drive(tmp_path / "d0")
    yield drive
    await drive.close()


async def make_drive(path: Path) -> LocalDrive:
    drive = LocalDrive(path, slot=0)
    await drive.create({"identity": b"who"})
    await drive.fence(Writer(2, "a" * 32))
    await drive.prepare([2])
    return drive


def key(number: int) -> str:
    return f"s/00000002/{number:08x}"


def files_below(path: Path) -> set[str]:
    return {found.relative_to(path).as_posix() for found in path.rglob("*") if found.is_file()}


# ---- what lies on the disk ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
async def test_everything_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        drive = await make_drive(tmp_path / "d0")
        await drive.put(KEY, [b"data"])
        await drive.put(KEY, [b"data"], replace=True)
        await drive.append(SEGMENT, 0, b"record")
        await drive.write_blob("superblock", b"data")
        await drive.close()
    finally:
        os.umask(before)
    for found in [tmp_path / "d0", *(tmp_path / "d0").rglob("*")]:
        assert stat.S_IMODE(found.stat().st_mode) == (0o700 if found.is_dir() else 0o600), found


async def test_layout_is_what_format_md_says(drive: LocalDrive) -> None:
    await drive.put(KEY, [b"data"])
    await drive.put("c/00000002.00000001", [b"data"])
    await drive.append(SEGMENT, 0, b"record")
    expected = {"identity", "fence", "lock", KEY, "c/00000002.00000001", SEGMENT}
    assert files_below(Path(drive.url)) == expected


async def test_strays_are_files_that_ecfs_did_not_put_there(drive: LocalDrive) -> None:
    root = Path(drive.url)
    await drive.put(KEY, [b"data"])
    for name in ("notes.txt", "s/readme", "s/00000002/not-a-shard", "c/x y", "j/J", "s/00000002/0000000A"):
        (root / name).write_text("foreign")
    (root / "s/00000002/00000009").mkdir()
    (root / "s/00000008").write_text("a file where an epoch's directory would be")
    (root / ".hidden").write_text("scenery")
    (root / "lost+found").mkdir()
    expected = {"notes.txt", "s/readme", "s/00000002/not-a-shard", "c/x y", "j/J", "s/00000002/0000000A"}
    assert set(await drive.strays()) == expected | {"s/00000002/00000009", "s/00000008"}
    assert len(await drive.strays(limit=2)) == 2
    assert [entry.key async for entry in drive.list("s/")] == [KEY]


async def test_listing_a_partly_deleted_drive_is_an_error_not_an_empty_answer(drive: LocalDrive) -> None:
    (Path(drive.url) / "c").rmdir()
    with pytest.raises(DriveUnreachableError):
        await anext(drive.list("c/"))


async def test_temporary_names_of_a_crash_are_cleaned_by_the_next_writer_only(drive: LocalDrive) -> None:
    root = Path(drive.url)
    await drive.close()
    (root / ".tmp-0123456789abcdef").write_text("left by a crash")
    (root / ".tmp-important").write_text("not one of ours")
    await drive.attach(exclusive=False)
    assert (root / ".tmp-0123456789abcdef").exists()
    await drive.attach(exclusive=True)
    assert not (root / ".tmp-0123456789abcdef").exists()
    assert (root / ".tmp-important").exists()


async def test_empty_directories_of_other_epochs_are_removed_full_ones_stay(drive: LocalDrive) -> None:
    await drive.put(KEY, [b"data"])
    await drive.prepare([3, 4])
    await drive.attach(exclusive=True)
    await drive.prepare([5])
    assert sorted(os.listdir(Path(drive.url) / "s")) == ["00000002", "00000005"]


async def test_prepare_keeps_empty_epochs_that_were_prepared_since_attach(drive: LocalDrive) -> None:
    await drive.prepare([3])
    await drive.put(KEY, [b"data"])


# ---- a place that is exchanged under an open drive ------------------------------------------------------------------


async def test_a_directory_moved_away_is_no_copy(drive: LocalDrive, tmp_path: Path) -> None:
    await drive.put(KEY, [b"data"])
    (tmp_path / "d0").rename(tmp_path / "elsewhere")
    with pytest.raises(DriveUnreachableError, match="deleted or unmounted"):
        await drive.sync()


async def test_an_emptied_directory_is_not_alive(drive: LocalDrive) -> None:
    (Path(drive.url) / "identity").unlink()
    with pytest.raises(DriveUnreachableError, match="no identity"):
        await drive.alive()


async def test_a_directory_without_room_for_the_shards_of_an_epoch_is_not_alive(drive: LocalDrive) -> None:
    """Empty or not: found before a put finds it, and by a scrub that has no shard there to miss."""
    await drive.prepare([3])
    await drive.alive()
    (Path(drive.url) / "s" / "00000003").rmdir()
    with pytest.raises(DriveUnreachableError, match="s/00000003 was deleted"):
        await drive.alive()


@pytest.mark.parametrize("name", ["c", "j"])
async def test_a_directory_without_room_for_checkpoints_or_journal_is_not_alive(drive: LocalDrive, name: str) -> None:
    """As above: what lay there is gone, and an idle pool would not notice before the next opening."""
    await drive.alive()
    shutil.rmtree(Path(drive.url) / name)
    with pytest.raises(DriveUnreachableError, match=f"/{name} was deleted"):
        await drive.alive()


async def test_a_shard_deleted_before_its_sync_fails_the_sync(drive: LocalDrive) -> None:
    await drive.put(KEY, [b"data"])
    (Path(drive.url) / KEY).unlink()
    with pytest.raises(DriveUnreachableError):
        await drive.sync()


async def test_a_segment_exchanged_under_its_descriptor_is_no_copy(drive: LocalDrive) -> None:
    await drive.append(SEGMENT, 0, b"record")
    segment = Path(drive.url) / SEGMENT
    segment.rename(segment.with_name("old"))
    segment.write_bytes(b"record")
    with pytest.raises(DriveUnreachableError):
        await drive.append(SEGMENT, 6, b"record")


async def test_a_link_or_directory_under_a_key_is_a_damaged_shard_and_not_followed(drive: LocalDrive) -> None:
    (Path(drive.url) / key(1)).symlink_to("/etc/hostname")
    (Path(drive.url) / key(2)).mkdir()
    for number in (1, 2):
        with pytest.raises(ShardCorruptError):
            await drive.get(key(number))


async def test_a_blob_too_large_to_be_ours_does_not_fill_memory(drive: LocalDrive) -> None:
    with open(Path(drive.url) / "superblock", "wb") as file:
        file.truncate(MAX_BLOB + 1)
    with pytest.raises(ShardCorruptError):
        await drive.read_blob("superblock")


# ---- syncs (R21) ----------------------------------------------------------------------------------------------------


@contextmanager
def fsync_that_hangs(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """(begun, go on): fsync waits for the second."""
    begun, go_on = threading.Event(), threading.Event()
    real = os.fsync

    def slow(descriptor: int) -> None:
        begun.set()
        go_on.wait()
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", slow)
        patch.setattr(os, "fdatasync", slow)
        try:
            yield begun, go_on
        finally:
            go_on.set()


async def wait_for(event: threading.Event) -> None:
    assert await trio.to_thread.run_sync(event.wait, 10)


async def give_up_soon(call: Awaitable[None]) -> None:
    with trio.move_on_after(0.2) as scope:
        await call
    assert scope.cancelled_caught


async def returned(drive: LocalDrive) -> None:
    """Wait until no given-up call is left."""
    with trio.fail_after(10):
        while drive.abandoned:  # counted in threads, which can't set an event of trio's
            await trio.sleep(0.01)


async def test_a_put_during_a_sync_belongs_to_the_next(drive: LocalDrive, monkeypatch: pytest.MonkeyPatch) -> None:
    await drive.put(key(0), [b"data"])
    async with trio.open_nursery() as nursery:
        with fsync_that_hangs(monkeypatch) as (begun, go_on):
            nursery.start_soon(drive.sync)
            await wait_for(begun)
            await drive.put(key(1), [b"data"])
            go_on.set()
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    await drive.sync()
    assert (Path(drive.url) / key(1)).stat().st_ino in synced
    assert (Path(drive.url) / key(0)).stat().st_ino not in synced


async def begun_put(drive: LocalDrive, name: str, buffers: list[bytes]) -> None:
    gathering = Gathering()
    begun = drive.begin_put(name, buffers, gathering)
    await gathering.wait()
    begun.result()


@pytest.mark.parametrize("way", [LocalDrive.put, begun_put])
async def test_a_put_on_its_way_while_a_sync_fails_fails_too(
    drive: LocalDrive, monkeypatch: pytest.MonkeyPatch, way: Callable[..., Awaitable[None]]
) -> None:
    writing, go_on = threading.Event(), threading.Event()
    real = os.pwritev

    def slow(*args: object) -> int:
        writing.set()
        go_on.wait()
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "pwritev", slow)
    monkeypatch.setattr(os, "fsync", fails_with(errno.EIO))
    with pytest.RaisesGroup(pytest.RaisesExc(DriveUnreachableError, match="does not count")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(way, drive, key(1), [b"data"])
            await wait_for(writing)
            drive._puts._pending.directories.add("s/00000002")  # something for the sync to fail at
            with pytest.raises(DriveUnreachableError):
                await drive.sync()
            go_on.set()


async def test_a_begun_put_does_not_count_if_a_sync_fails_before_anybody_asks(
    drive: LocalDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathering = Gathering()
    begun = drive.begin_put(key(1), [b"data"], gathering)
    await gathering.wait()
    monkeypatch.setattr(os, "fsync", fails_with(errno.EIO))
    with pytest.raises(DriveUnreachableError):
        await drive.sync()
    with pytest.raises(DriveUnreachableError, match="does not count"):
        begun.result()


async def test_a_put_that_syncs_by_itself_and_fails_voids_all(
    drive: LocalDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_puts, "MAX_OPEN", 2)
    for number in range(2):
        await drive.put(key(number), [b"data"])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails_with(errno.EIO))
        with pytest.raises(DriveUnreachableError):
            await drive.put(key(2), [b"data"])
    with pytest.raises(DriveUnreachableError, match="could not be synced"):
        await drive.sync()
    await drive.sync()


async def test_a_replace_that_could_not_rename_fails_the_next_sync(
    drive: LocalDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    await drive.put(KEY, [b"old, and not synced"])
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fails_with(errno.EIO))
        with pytest.raises(DriveUnreachableError):
            await drive.put(KEY, [b"new"], replace=True)
    with pytest.raises(DriveUnreachableError, match="could not be replaced"):
        await drive.sync()


async def given_up_and_put_again(
    drive: LocalDrive, monkeypatch: pytest.MonkeyPatch, *, late_error: OSError | None = None
) -> None:
    """The second try is synced before the first one ends, with an error if one is given."""
    first, go_on = iter([True]), threading.Event()

    def write(*args: Any) -> None:
        if next(first, False):
            go_on.wait(30)
            if late_error is not None:
                raise late_error
        write_all(*args)

    monkeypatch.setattr(local_puts, "write_all", write)
    with trio.move_on_after(0.3):
        await drive.put(KEY, [b"data"])
    await drive.put(KEY, [b"data"], replace=True)
    await drive.sync()
    go_on.set()
    while drive.abandoned:
        await trio.sleep(0.01)


async def test_a_put_that_was_given_up_and_fails_late_leaves_its_replacement(
    drive: LocalDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took its name away, which by then led to the second try: synced, and counted."""
    await given_up_and_put_again(drive, monkeypatch, late_error=OSError(errno.EIO, "late"))
    assert await drive.get(KEY) == b"data"


async def test_a_put_that_was_given_up_and_ends_late_fails_no_later_sync(
    drive: LocalDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file has no name any more: a sync that looked for it would void all the others, and take the drive out."""
    await given_up_and_put_again(drive, monkeypatch)
    await drive.put(key(1), [b"other"])
    await drive.sync()
    assert await drive.get(KEY) == b"data"


async def test_a_sync_given_up_voids_what_it_was_to_cover(drive: LocalDrive, monkeypatch: pytest.MonkeyPatch) -> None:
    await drive.put(key(0), [b"data"])
    with fsync_that_hangs(monkeypatch):
        await give_up_soon(drive.sync())
        assert drive.abandoned == 1
    await returned(drive)
    assert drive._puts.generation == 1


async def test_a_sync_in_the_thread_of_its_call_voids_what_it_fails_for(
    drive: LocalDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    await drive.put(key(0), [b"data"])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails_with(errno.EIO))
        with pytest.raises(DriveUnreachableError):
            await trio.to_thread.run_sync(drive.syncing())
    assert drive._puts.generation == 1
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    await trio.to_thread.run_sync(drive.syncing())
    assert (Path(drive.url) / key(0)).stat().st_ino not in synced


async def test_few_descriptors_are_open_however_many_puts(drive: LocalDrive) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3 * local_puts.MAX_OPEN):
        await drive.put(key(number), [b"data"])
    assert len(os.listdir("/proc/self/fd")) <= before + local_puts.MAX_OPEN
    await drive.sync()
    assert len(os.listdir("/proc/self/fd")) <= before


# ---- hung disks (R20) -----------------------------------------------------------------------------------------------


async def test_a_late_append_is_counted_and_its_segment_sealed(
    drive: LocalDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fsync_that_hangs(monkeypatch):
        await give_up_soon(drive.append(SEGMENT, 0, b"record"))
        assert drive.abandoned == 1
    await returned(drive)
    with pytest.raises(DriveUnreachableError, match="new one"):
        await drive.append(SEGMENT, 6, b"record")


async def test_closing_does_not_wait_for_a_hung_call_and_its_lock_stays_until_it_returns(
    drive: LocalDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = LocalDrive(drive.url)
    with fsync_that_hangs(monkeypatch):
        await give_up_soon(drive.append(SEGMENT, 0, b"record"))
        with trio.fail_after(5):
            await drive.close()
        with pytest.raises(DriveLockedError):  # what still runs may still write
            await other.attach(exclusive=True)
    await returned(drive)
    await other.attach(exclusive=True)
    await other.close()


@pytest.mark.parametrize("creating", [False, True])
async def test_an_attach_given_up_does_not_keep_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, creating: bool
) -> None:
    if not creating:
        await (await make_drive(tmp_path / "d0")).close()
    drive = LocalDrive(tmp_path / "d0")
    begun, go_on = threading.Event(), threading.Event()
    real = fcntl.flock

    def slow(descriptor: int, operation: int) -> None:
        real(descriptor, operation)
        begun.set()
        go_on.wait()

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", slow)
        async with trio.open_nursery() as nursery:
            if creating:
                nursery.start_soon(drive.create, {"identity": b"who"})
            else:
                nursery.start_soon(partial(drive.attach, exclusive=True))
            await wait_for(begun)
            nursery.cancel_scope.cancel()
        assert drive.abandoned == 1
        go_on.set()
        await returned(drive)
    await drive.attach(exclusive=True)
    await drive.close()


async def test_a_result_that_came_a_moment_too_late_is_thrown_away() -> None:
    threads, go_on, thrown = Threads(), threading.Event(), threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(threads.run, go_on.wait, lambda result: thrown.set())
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
        time.sleep(0.05)  # noqa: ASYNC251  # so that the result is there but can't be delivered
        nursery.cancel_scope.cancel()
    assert threads.abandoned == 0
    await wait_for(thrown)


async def test_calls_that_wait_for_a_thread_never_begin_once_given_up(
    drive: LocalDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fsync_that_hangs(monkeypatch):
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(give_up_soon, drive.append(f"j/00000002.{number:06x}", 0, b"record"))
        assert drive.abandoned == 8
        await give_up_soon(drive.put(key(0), [b"data"]))
    await returned(drive)
    assert not (Path(drive.url) / key(0)).exists()


# ---- what the disk says ---------------------------------------------------------------------------------------------


def fails_with(number: int):
    def fail(*args: object, **kwargs: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.ESTALE, errno.ENODEV, errno.EACCES, errno.EMFILE])
async def test_put_that_the_disk_refuses_leaves_nothing(
    drive: LocalDrive, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", fails_with(number))
        with pytest.raises(DriveUnreachableError, match=errno.errorcode[number]):
            await drive.put(KEY, [b"data"])
    with pytest.raises(ShardMissingError):
        await drive.get(KEY)
    await drive.put(KEY, [b"data"])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_full_disk_is_full_not_unreachable(
    drive: LocalDrive, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", fails_with(number))
        for call in (drive.put(KEY, [b"data"]), drive.append(SEGMENT, 0, b"x"), drive.write_blob("superblock", b"x")):
            with pytest.raises(DriveFullError):
                await call
    await drive.put(KEY, [b"data"])


async def test_short_writes_are_continued(drive: LocalDrive, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, views, offset: real(fd, [views[0][:3]], offset))
    await drive.put(KEY, [b"01234567", b"89", b"abcd"])
    assert await drive.get(KEY) == b"0123456789abcd"


async def test_a_bad_sector_is_one_damaged_shard(drive: LocalDrive, monkeypatch: pytest.MonkeyPatch) -> None:
    await drive.put(KEY, [b"x" * 100])
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, n, at: real(fd, n, at) if n == 1 else fails_with(errno.EIO)())
    with pytest.raises(ShardCorruptError):
        await drive.get(KEY)


async def test_a_disk_that_reads_nothing_any_more_is_unreachable(
    drive: LocalDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    await drive.put(KEY, [b"x" * 100])
    monkeypatch.setattr(os, "pread", fails_with(errno.EIO))
    with pytest.raises(DriveUnreachableError):
        await drive.get(KEY)


async def test_an_append_that_finds_no_room_leaves_no_empty_segment(
    drive: LocalDrive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is tried again every second, each time with a new segment."""

    def no_room(descriptor: int, buffers: object, offset: int = 0) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    await drive.append(SEGMENT, 0, b"first")
    with monkeypatch.context() as patched:
        patched.setattr("ecfs.drive.local_segments.write_all", no_room)
        with pytest.raises(DriveFullError):
            await drive.append(SEGMENT, 5, b"second")
        for number in (1, 2):
            with pytest.raises(DriveFullError):
                await drive.append(f"j/00000002.{number:06x}", 0, b"second")
    await drive.append("j/00000002.000003", 0, b"second")
    assert files_below(tmp_path / "d0" / "j") == {"00000002.000000", "00000002.000003"}
