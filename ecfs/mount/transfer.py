"""put, get and rm over any `Tree`: files, directories and symbolic links, with modes and times."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import trio

from ecfs.errors import UsageError
from ecfs.mount.tree import CHUNK, Item, Tree, split_path, temporary_name

STANDARD = "-"
"""Standard input or output in place of a local file."""


def join(directory: str, name: str) -> str:
    return f"{directory.rstrip('/')}/{name}"


async def put(tree: Tree, local: str, remote: str, *, recursive: bool) -> None:
    """Copy a local file, directory or link into the pool. A remote directory takes it under its own name."""
    target = await _target(tree, remote, _own_name(local))
    if local == STANDARD:
        await tree.write(target, _stdin(), 0o644, None)
    else:
        await _put(tree, Path(local), target, recursive=recursive)
    await tree.sync()


def _own_name(local: str) -> str:
    return "" if local == STANDARD else os.path.basename(os.path.abspath(local))


async def _target(tree: Tree, remote: str, name: str) -> str:
    found = await tree.find(remote)
    if found is not None and found.is_directory:
        if not name:
            raise UsageError(f"{remote} is a directory: give the name that the file is to have")
        return join(remote, name)
    if not split_path(remote) or remote.endswith("/"):
        raise UsageError(f"there is no directory {remote} in the pool")
    return remote


async def _put(tree: Tree, local: Path, target: str, *, recursive: bool) -> None:
    try:
        found = os.lstat(local)
        if stat.S_ISDIR(found.st_mode):
            await _put_directory(tree, local, target, found, recursive=recursive)
        elif stat.S_ISLNK(found.st_mode):
            await tree.symlink(target, os.readlink(local))
        elif stat.S_ISREG(found.st_mode):
            await tree.write(target, _local(local), stat.S_IMODE(found.st_mode), found.st_mtime_ns)
        else:
            raise UsageError(f"{local} is neither file, directory nor link: left out would be lost, so nothing is done")
    except OSError as error:
        raise UsageError(f"{error.filename or local}: {error.strerror}") from error


async def _put_directory(tree: Tree, local: Path, target: str, found: os.stat_result, *, recursive: bool) -> None:
    if not recursive:
        raise UsageError(f"{local} is a directory: use -r to copy it with everything in it")
    there = await tree.find(target)
    if there is None:
        await tree.mkdir(target, stat.S_IMODE(found.st_mode))
    for name in sorted(os.listdir(local)):
        await _put(tree, local / name, join(target, name), recursive=True)


async def get(tree: Tree, remote: str, local: str, *, recursive: bool) -> None:
    """Copy a file, directory or link out of the pool. A local directory takes it under its own name."""
    item = await _existing(tree, remote)
    if local == STANDARD:
        async for data in tree.read(remote):
            sys.stdout.buffer.write(data)
        return
    place = _place_for(remote, Path(local))
    try:
        await _get(tree, remote, item, place, recursive=recursive)
    except OSError as error:
        raise UsageError(f"{error.filename or place}: {error.strerror}") from error


def _place_for(remote: str, local: Path) -> Path:
    name = (split_path(remote) or [""])[-1]
    return local / name if local.is_dir() else local


async def _existing(tree: Tree, remote: str) -> Item:
    item = await tree.find(remote)
    if item is None:
        raise UsageError(f"{remote}: no such file in the pool")
    return item


async def _get(tree: Tree, remote: str, item: Item, local: Path, *, recursive: bool) -> None:
    if item.is_directory:
        if not recursive:
            raise UsageError(f"{remote} is a directory: use -r to copy it with everything in it")
        await trio.Path(local).mkdir(exist_ok=True)
        for entry in await tree.entries(remote):
            await _get(tree, join(remote, entry.name), entry, local / entry.name, recursive=True)
        os.chmod(local, stat.S_IMODE(item.mode))
    elif item.is_link:
        os.symlink(await tree.readlink(remote), local)
    elif item.is_file:
        await _get_file(tree, remote, item, local)
    else:
        raise UsageError(f"{remote} is neither file, directory nor link: mount the pool to copy it")


async def _get_file(tree: Tree, remote: str, item: Item, local: Path) -> None:
    """Under a temporary name until it is whole: half a file must not look like the file."""
    building = local.with_name(temporary_name(local.name, "ecfs-get"))
    try:
        async with await trio.open_file(building, "wb") as file:
            async for data in tree.read(remote):
                await file.write(data)
            os.fchmod(file.fileno(), stat.S_IMODE(item.mode))
        os.utime(building, ns=(item.mtime_ns, item.mtime_ns))
        os.replace(building, local)
    except BaseException:
        building.unlink(missing_ok=True)
        raise


async def remove(tree: Tree, remote: str, *, recursive: bool) -> None:
    """Remove a file or link, or with `recursive` a directory and everything in it."""
    if not split_path(remote):
        raise UsageError("the root of a pool can't be removed")
    await _remove(tree, remote, await _existing(tree, remote), recursive=recursive)
    await tree.sync()


async def _remove(tree: Tree, remote: str, item: Item, *, recursive: bool) -> None:
    if item.is_directory:
        if not recursive:
            raise UsageError(f"{remote} is a directory: use -r to remove it with everything in it")
        for entry in await tree.entries(remote):
            await _remove(tree, join(remote, entry.name), entry, recursive=True)
    await tree.remove(remote, directory=item.is_directory)


async def _local(path: Path) -> AsyncIterator[bytes]:
    async with await trio.open_file(path, "rb") as file:
        while data := await file.read(CHUNK):
            yield data


async def _stdin() -> AsyncIterator[bytes]:
    while data := await trio.to_thread.run_sync(sys.stdin.buffer.read, CHUNK):
        yield data
