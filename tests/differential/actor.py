"""Does steps in one directory, with the calls any program makes."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

from ecfs.fs.acl import ACCESS, Entry, build
from tests.differential.steps import Argument, Step

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
WRITES = {"write", "pwrite", "map_write", "sendfile", "copy_range"}
"""Done by whoever opened the handle: the library does not tell who writes (docs/LIMITS.md, setuid)."""
THREADS = 4
CHURNED = 200
"""Files in a directory that is read while they are deleted: more than one answer of the kernel holds."""

Answer = str | int | None | list[str]


class Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


def noise(seed: int, length: int) -> bytes:
    return Random(seed).randbytes(length)


def digest(data: bytes) -> str:
    return f"{len(data)} bytes {hashlib.blake2b(data, digest_size=8).hexdigest()}"


def check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")


@contextmanager
def acting_as(user: int) -> Iterator[None]:
    if user == 0 or os.geteuid() != 0:
        yield
        return
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


class Actor:
    """Paths lie below `base`; handles are kept in slots across steps."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.handles: dict[int, int] = {}
        self.openers: dict[int, int] = {}
        self.user = 0

    def do(self, step: Step) -> Answer:
        """What the step returned, or the name of its errno."""
        user, name, *arguments = step
        operation: Callable[..., Answer] = getattr(self, f"do_{name}")
        self.user = int(self.openers.get(int(arguments[0]), user) if name in WRITES else user)
        try:
            with acting_as(self.user):
                return operation(*arguments)
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def path(self, name: str) -> str:
        return f"{self.base}/{name}"

    def fd(self, slot: int) -> int:
        if slot not in self.handles:
            raise OSError(errno.EBADF, "nothing is open there")
        return self.handles[slot]

    def keep(self, slot: int, fd: int, opener: int) -> None:
        self.drop(slot)
        self.handles[slot], self.openers[slot] = fd, opener

    def drop(self, slot: int) -> None:
        fd = self.handles.pop(slot, None)
        if fd is not None:
            os.close(fd)

    def close_all(self) -> None:
        for slot in list(self.handles):
            self.drop(slot)

    # ---- handles ----------------------------------------------------------------------------------------

    def do_open(self, slot: int, name: str, flags: int, mode: int) -> Answer:
        self.keep(slot, os.open(self.path(name), flags | os.O_NONBLOCK, mode), self.user)
        return None

    def do_close(self, slot: int) -> Answer:
        self.fd(slot)
        self.drop(slot)
        return None

    def do_dup(self, slot: int, other: int) -> Answer:
        self.keep(other, os.dup(self.fd(slot)), self.openers[slot])
        return None

    def do_pread(self, slot: int, offset: int, length: int) -> Answer:
        return digest(os.pread(self.fd(slot), length, offset))

    def do_pwrite(self, slot: int, offset: int, length: int, seed: int) -> Answer:
        return os.pwrite(self.fd(slot), noise(seed, length), offset)

    def do_read(self, slot: int, length: int) -> Answer:
        return digest(os.read(self.fd(slot), length))

    def do_write(self, slot: int, length: int, seed: int) -> Answer:
        fd = self.fd(slot)
        os.write(fd, noise(seed, length))
        return os.lseek(fd, 0, os.SEEK_CUR)

    def do_seek(self, slot: int, offset: int, whence: int) -> Answer:
        fd = self.fd(slot)
        return "a directory" if os.path.isdir(f"/proc/self/fd/{fd}") else os.lseek(fd, offset, whence)

    def do_ftruncate(self, slot: int, size: int) -> Answer:
        os.ftruncate(self.fd(slot), size)
        return None

    def do_truncate(self, name: str, size: int) -> Answer:
        os.truncate(self.path(name), size)
        return None

    def do_fsync(self, slot: int) -> Answer:
        os.fsync(self.fd(slot))
        return None

    def do_fstat(self, slot: int) -> Answer:
        status = os.fstat(self.fd(slot))
        return [oct(status.st_mode), str(status.st_nlink), f"{status.st_uid}:{status.st_gid}"]

    def do_map_write(self, slot: int, offset: int, length: int, seed: int) -> Answer:
        fd = self.fd(slot)
        size = os.fstat(fd).st_size
        if not size or os.path.isdir(f"/proc/self/fd/{fd}"):
            return "nothing to map"
        with mmap.mmap(fd, size) as mapped:
            offset %= size
            length = min(length, size - offset)
            mapped[offset : offset + length] = noise(seed, length)
            seen = digest(os.pread(fd, length, offset)) if os.O_ACCMODE & _flags(fd) == os.O_RDWR else None
            mapped.flush()
        return seen

    def do_map_read(self, slot: int) -> Answer:
        fd = self.fd(slot)
        size = os.fstat(fd).st_size
        if not size or os.path.isdir(f"/proc/self/fd/{fd}"):
            return "nothing to map"
        with mmap.mmap(fd, size, prot=mmap.PROT_READ) as mapped:
            return digest(mapped[:])

    def do_sendfile(self, out: int, source: int, offset: int, length: int) -> Answer:
        return os.sendfile(self.fd(out), self.fd(source), offset, length)

    def do_copy_range(self, out: int, source: int, offset: int, at: int, length: int) -> Answer:
        return os.copy_file_range(self.fd(source), self.fd(out), length, offset, at)

    # ---- names ------------------------------------------------------------------------------------------

    def do_mkdir(self, name: str, mode: int) -> Answer:
        os.mkdir(self.path(name), mode)
        return None

    def do_rmdir(self, name: str) -> Answer:
        os.rmdir(self.path(name))
        return None

    def do_unlink(self, name: str) -> Answer:
        os.unlink(self.path(name))
        return None

    def do_rename(self, old: str, new: str, flags: int) -> Answer:
        one, two = (os.fsencode(self.path(name)) for name in (old, new))
        check(LIBC.renameat2(AT_FDCWD, one, AT_FDCWD, two, flags))
        return None

    def do_link(self, old: str, new: str) -> Answer:
        os.link(self.path(old), self.path(new), follow_symlinks=False)
        return None

    def do_symlink(self, target: str, name: str) -> Answer:
        os.symlink(target, self.path(name))
        return None

    def do_readlink(self, name: str) -> Answer:
        return os.readlink(self.path(name))

    def do_mkfifo(self, name: str, mode: int) -> Answer:
        os.mkfifo(self.path(name), mode)
        return None

    def do_listdir(self, name: str) -> Answer:
        return sorted(os.listdir(self.path(name)))

    def do_churn(self, name: str, seed: int) -> Answer:
        """Read a full directory while it is emptied: what stays must be seen, each name once."""
        folder = self.path(name)
        names = [f"churn{number}" for number in range(CHURNED)]
        for each in names:
            os.close(os.open(f"{folder}/{each}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        doomed = Random(seed).sample(names, CHURNED // 2)
        staying = set(names) - set(doomed)
        seen: list[str] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                seen.append(entry.name)
                if doomed:
                    os.unlink(f"{folder}/{doomed.pop()}")
        for each in (*doomed, *staying):
            os.unlink(f"{folder}/{each}")
        kept = sorted(each for each in seen if each in staying or not each.startswith("churn"))
        return [str(len(seen) - len(set(seen))), digest(os.fsencode("\n".join(kept)))]

    # ---- attributes -------------------------------------------------------------------------------------

    def do_chmod(self, name: str, mode: int) -> Answer:
        os.chmod(self.path(name), mode)
        return None

    def do_fchmod(self, slot: int, mode: int) -> Answer:
        os.fchmod(self.fd(slot), mode)
        return None

    def do_chown(self, name: str, uid: int, gid: int) -> Answer:
        os.lchown(self.path(name), uid, gid)
        return None

    def do_utimens(self, name: str, atime: int, mtime: int) -> Answer:
        times = (Timespec * 2)(_timespec(atime), _timespec(mtime))
        path = self.path(name)
        check(LIBC.utimensat(AT_FDCWD, os.fsencode(path), times, 0))
        status = os.stat(path)
        return [str(status.st_atime_ns if atime >= 0 else 0), str(status.st_mtime_ns if mtime >= 0 else 0)]

    def do_setxattr(self, name: str, key: str, seed: int, flags: int) -> Answer:
        os.setxattr(self.path(name), key, noise(seed, seed % 100), flags)
        return None

    def do_getxattr(self, name: str, key: str) -> Answer:
        return digest(os.getxattr(self.path(name), key))

    def do_removexattr(self, name: str, key: str) -> Answer:
        os.removexattr(self.path(name), key)
        return None

    def do_setacl(self, name: str, seed: int) -> Answer:
        nobody = 0xFFFFFFFF
        entries = [Entry(1, seed & 7, nobody), Entry(4, seed >> 3 & 7, nobody), Entry(0x20, seed >> 6 & 7, nobody)]
        if seed & 1 << 10:
            entries[1:1] = [Entry(2, seed >> 9 & 7, 1000)]
            entries.insert(3, Entry(0x10, seed >> 12 & 7, nobody))
        os.setxattr(self.path(name), ACCESS, build(entries))
        return None

    # ---- several at once --------------------------------------------------------------------------------

    def do_together(self, name: str, length: int, seed: int) -> Answer:
        """Threads that write their own parts of one file, and one file each beside it."""
        fd = os.open(self.path(name), os.O_CREAT | os.O_RDWR | os.O_NONBLOCK)
        errors: list[int] = []

        def work(number: int) -> None:
            try:
                for part in range(number, 4 * THREADS, THREADS):
                    os.pwrite(fd, noise(seed + part, length), part * length)
                    assert os.pread(fd, length, part * length) == noise(seed + part, length)
            except OSError as error:
                errors.append(error.errno or 0)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os.close(fd)
        return [errno.errorcode[number] for number in errors]


def _timespec(time: Argument) -> Timespec:
    if int(time) < 0:
        return Timespec(0, UTIME_NOW if time == -1 else UTIME_OMIT)
    return Timespec(*divmod(int(time), 10**9))


def _flags(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_GETFL)
