"""The first words between the kernel and libfuse, with one thing added that libfuse 3.14 can't say, and one taken out.

Before every write(2) the kernel asks for ``security.capability``, which a write must take away. It remembers that there
is none (`S_NOSEC`) only for a file system that promises, by the flag `HANDLE_KILLPRIV_V2` of its answer to INIT, that a
write takes setuid and setgid away too; `fs` does that. Without the flag each small write is two requests instead of
one. Debian 12's libfuse does not know it. So libfuse gets the INIT request through a socket that stands for a moment
under the number of its descriptor, and the flag is put into its answer on the way.

Taken out is `ASYNC_DIO`, which libfuse asks for unasked: with it the kernel calls an asynchronous O_DIRECT write
(libaio, io_uring; databases, QEMU) done as soon as the daemon has the bytes, without the fsync that O_DSYNC or
RWF_DSYNC asks for (`generic_write_sync` is left out for EIOCBQUEUED). What a program took for durable was not.

`security.capability` itself is as safe as before: the kernel looks before the first write to an inode that it does not
know, and again after each setxattr. Layout of the messages: ``linux/fuse.h``, fuse_in_header, fuse_init_in,
fuse_out_header, fuse_init_out.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import stat
import struct

_log = logging.getLogger(__name__)

HANDLE_KILLPRIV_V2 = 1 << 28
ASYNC_DIO = 1 << 15
_INIT = 26
_DEV_FUSE = (10, 229)
"""Major and minor number of /dev/fuse."""
_READ = 1 << 17
"""Bytes; the kernel refuses to answer into less than 8 KiB."""
_PATIENCE_MS = 1000
"""The kernel sends INIT while it mounts: it has been there for long."""
_WORD = struct.Struct("<I")
_OPCODE_AT, _OFFERED_AT = 4, 52
_ANSWERED_AT = 28
"""Where a request has its opcode and its flags, and an answer its flags."""


class Introduction:
    """INIT on its way to libfuse and back. `begin`, then libfuse answers, then `finish`."""

    def __init__(self, fd: int, kernel: int, ours: socket.socket, offered: int) -> None:
        self._fd = fd
        self._kernel = kernel
        self._ours = ours
        self._offered = offered

    @classmethod
    def begin(cls, fd: int) -> Introduction | None:
        """Hand INIT to who reads `fd`, the descriptor of a session. None if it is not that of the kernel, or if INIT
        is not there: nothing was changed then."""
        if not _is_kernel(fd) or not _has_something(fd):
            return None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kernel = os.dup(fd)
        os.dup2(theirs.fileno(), fd, inheritable=False)
        theirs.close()
        request = os.read(kernel, _READ)
        ours.send(request)
        return cls(fd, kernel, ours, flags_offered(request))

    def finish(self) -> None:
        """Give the answer to the kernel, and its descriptor back to libfuse. The caller has let libfuse answer."""
        try:
            answer = self._ours.recv(_READ, socket.MSG_DONTWAIT)
            os.write(self._kernel, with_flags(answer, self._offered & HANDLE_KILLPRIV_V2, without=ASYNC_DIO))
        except OSError as error:
            # Unmounted meanwhile, for one: libfuse hears that from its own descriptor and ends in order.
            _log.info("the kernel did not get the answer to INIT: %s", error)
        finally:
            os.dup2(self._kernel, self._fd, inheritable=False)
            os.close(self._kernel)
            self._ours.close()


def _is_kernel(fd: int) -> bool:
    found = os.fstat(fd)
    return stat.S_ISCHR(found.st_mode) and (os.major(found.st_rdev), os.minor(found.st_rdev)) == _DEV_FUSE


def _has_something(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return any(event & select.POLLIN for _, event in poll.poll(_PATIENCE_MS))


def flags_offered(request: bytes) -> int:
    """What the kernel can do, by an INIT request; 0 if it is another one."""
    if len(request) < _OFFERED_AT + _WORD.size or _WORD.unpack_from(request, _OPCODE_AT)[0] != _INIT:
        return 0
    flags: int = _WORD.unpack_from(request, _OFFERED_AT)[0]
    return flags


def with_flags(answer: bytes, flags: int, *, without: int = 0) -> bytes:
    """An answer to INIT with these flags as well, and without those; unchanged if it is an error or has no flags."""
    length, error = struct.unpack_from("<Ii", answer)
    if error or length < _ANSWERED_AT + _WORD.size:
        return answer
    changed = bytearray(answer)
    _WORD.pack_into(changed, _ANSWERED_AT, (_WORD.unpack_from(answer, _ANSWERED_AT)[0] | flags) & ~without)
    return bytes(changed)
