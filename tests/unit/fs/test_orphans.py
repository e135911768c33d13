"""Files without a name: they live as long as somebody holds them, and never longer than the mount."""

from __future__ import annotations

from ecfs.errors import NotEnoughDrivesError, PoolFullError, StalledError
from ecfs.fs.filesystem import FileSystem
from ecfs.fs.rename import Place
from ecfs.meta import ROOT_INO
from tests.unit.fs.conftest import ALICE, World


async def test_an_open_file_lives_on_without_a_name(world: World) -> None:
    ino = await world.file(b"a", b"content")
    fh = await world.fs.files.open(ino, 2, ALICE)
    await world.fs.namespace.unlink(ROOT_INO, b"a")
    assert world.stat(ino).nlink == 0
    assert world.db.names.orphans() == [ino]
    await world.fs.files.write(fh, 0, b"C")
    assert await world.fs.files.read(fh, 0, 10) == b"Content"
    await world.fs.files.fsync(fh)
    await world.fs.files.release(fh)
    assert world.db.names.inode(ino) is None
    assert not world.data.files
    assert not world.db.names.orphans()


async def test_the_last_of_handles_and_lookups_removes_it(world: World) -> None:
    ino = await world.file(b"a", b"content")
    handles = world.fs.handles
    first = await world.fs.files.open(ino, 0, ALICE)
    second = await world.fs.files.open(ino, 0, ALICE)
    handles.remember(ino)
    handles.remember(ino)
    await world.fs.namespace.unlink(ROOT_INO, b"a")
    for give_back in (lambda: handles.forget(ino, 1), None, lambda: handles.forget(ino, 1)):
        if give_back is None:
            await world.fs.files.release(first)
        else:
            give_back()
            await world.fs.orphans.released([ino])
        assert world.db.names.inode(ino) is not None
    await world.fs.files.release(second)
    assert world.db.names.inode(ino) is None


async def test_forgetting_files_that_have_names_removes_nothing(world: World) -> None:
    ino = await world.file(b"a", b"content")
    world.fs.handles.remember(ino)
    world.fs.handles.forget(ino, 1)
    admitted = len(world.data.admitted)
    await world.fs.orphans.released([ino])
    assert world.stat(ino).nlink == 1
    assert len(world.data.admitted) == admitted, "giving back names is not a change"


async def test_a_directory_held_by_the_kernel_goes_when_it_is_forgotten(world: World) -> None:
    ino = await world.directory(b"d")
    world.fs.handles.remember(ino)
    await world.fs.namespace.rmdir(ROOT_INO, b"d")
    assert world.stat(ino).nlink == 0
    world.fs.handles.forget(ino, 1)
    await world.fs.orphans.released([ino])
    assert world.db.names.inode(ino) is None


async def test_while_changes_are_refused_orphans_wait_for_the_next_release(world: World) -> None:
    inos = [await world.file(name, b"content") for name in (b"a", b"b")]
    handles = [await world.fs.files.open(ino, 0, ALICE) for ino in inos]
    for name in (b"a", b"b"):
        await world.fs.namespace.unlink(ROOT_INO, name)
    world.data.refuse, world.data.may_delete = StalledError("no drive answers"), False
    await world.fs.files.release(handles[0])
    assert world.db.names.orphans() == inos
    world.data.refuse = None
    await world.fs.files.release(handles[1])
    assert not world.db.names.orphans()
    assert not world.data.files


async def test_a_full_pool_still_removes_orphans(world: World) -> None:
    ino = await world.file(b"a", b"content")
    fh = await world.fs.files.open(ino, 0, ALICE)
    world.data.refuse = PoolFullError("full")
    await world.fs.namespace.unlink(ROOT_INO, b"a")
    await world.fs.files.release(fh)
    assert not world.data.files


async def test_the_next_mount_removes_what_was_left_open(world: World) -> None:
    for number in range(600):
        ino = await world.file(b"%d" % number, b"content")
        await world.fs.files.open(ino, 0, ALICE)
        await world.fs.namespace.unlink(ROOT_INO, b"%d" % number)
    kept = await world.file(b"kept", b"content")
    next_mount = FileSystem(world.db, world.data, world.clock)
    assert await next_mount.clean_orphans() == 600
    assert world.db.names.counts()[0] == 2
    assert world.data.files == {kept}
    assert await next_mount.clean_orphans() == 0


async def test_a_file_replaced_by_rename_lives_on_while_open(world: World) -> None:
    old = await world.file(b"a", b"old")
    fh = await world.fs.files.open(old, 0, ALICE)
    await world.file(b"b", b"new")
    await world.fs.renaming.rename(Place(ROOT_INO, b"b"), Place(ROOT_INO, b"a"))
    assert world.db.names.orphans() == [old]
    assert await world.fs.files.read(fh, 0, 9) == b"old"
    await world.fs.files.release(fh)
    assert not world.db.names.orphans()


async def test_a_mount_that_may_only_read_leaves_them_for_later(world: World) -> None:
    ino = await world.file(b"a", b"content")
    await world.fs.files.open(ino, 0, ALICE)
    await world.fs.namespace.unlink(ROOT_INO, b"a")
    next_mount = FileSystem(world.db, world.data, world.clock)
    world.data.refuse, world.data.may_delete = NotEnoughDrivesError("min_write_drives"), False
    assert await next_mount.clean_orphans() == 0
    world.data.refuse = None
    await next_mount.directories.release(next_mount.directories.open(ROOT_INO, ALICE))
    assert not world.db.names.orphans()
    assert not world.data.files
