"""Mount options, as written after ``-o``."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ecfs.errors import UsageError

FUSE_CONF = Path("/etc/fuse.conf")

_KNOWN: dict[str, dict[str, Any]] = {
    "ro": {"read_only": True},
    "rw": {"read_only": False},
    "allow_other": {"allow_other": True},
    "noallow_other": {"allow_other": False},
    "suid": {"suid": True},
    "nosuid": {"suid": False},
    "dev": {"dev": True},
    "nodev": {"dev": False},
    "writeback": {"writeback": True},
    "poll": {"poll": True},
    "nopoll": {"poll": False},
}
_WITH_VALUE = ("web", "web_token_file")
_KERNEL = ("noexec", "sync", "dirsync")
"""Handed on as they are."""
_MEANT_FOR_OTHERS = frozenset((
    "defaults", "auto", "noauto", "_netdev", "nofail", "user", "nouser", "users", "owner", "noowner", "group",
    "nogroup", "async", "exec", "default_permissions", "atime", "noatime", "relatime", "norelatime", "strictatime",
    "nostrictatime", "diratime", "nodiratime", "lazytime", "nolazytime",
))  # fmt: skip
"""What fstab says to mount(8) and systemd, and what is so anyway: reading moves no atime, the kernel checks rights."""


@dataclass(frozen=True)
class MountOptions:
    """allow_other: other users may use the folder, each with their own rights; suid, dev: such files work.

    writeback: the kernel collects small writes; then promise 2 (one moment in time) holds for what reached the daemon.
    """

    read_only: bool = False
    accept_loss: bool = False
    """Not an option of its own: `ecfs mount --accept-loss`, typed by a person who was told to."""
    allow_other: bool = False
    suid: bool = False
    dev: bool = False
    writeback: bool = False
    kernel: tuple[str, ...] = ()
    """Options that only the kernel understands."""
    web: str = ""
    """HOST:PORT of the status page; "" for none."""
    web_token_file: str = ""
    """Holds the token that the page asks for."""
    poll: bool = True
    """Look for the next request before going to sleep: many small requests are answered twice as fast."""


def parse_options(texts: Iterable[str]) -> MountOptions:
    """Root mounts for everybody, as mount(8) does; others for themselves. Raises UsageError."""
    root = os.geteuid() == 0
    options = MountOptions(allow_other=root, suid=root, dev=root)
    for name in (part for text in texts for part in text.split(",") if part):
        options = _with(options, name)
    if not root:
        _check_permitted(options)
    return options


def _with(options: MountOptions, name: str) -> MountOptions:
    if name == "remount":
        raise UsageError("remount is not supported: ecfs umount, then mount with the other options")
    if name in _KERNEL:
        return replace(options, kernel=(*options.kernel, name))
    if name in _MEANT_FOR_OTHERS or name.startswith(("x-", "X-", "comment=")):
        return options
    key, equals, value = name.partition("=")
    if equals and value and key in _WITH_VALUE:
        named: dict[str, Any] = {key: value}
        return replace(options, **named)
    if name not in _KNOWN:
        known = (*_KNOWN, *_KERNEL, *(f"{each}=…" for each in _WITH_VALUE))
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        raise UsageError(f"unknown mount option {name!r}: {hint}")
    return replace(options, **_KNOWN[name])


def _check_permitted(options: MountOptions) -> None:
    if options.suid or options.dev:
        raise UsageError("only root may mount with suid or dev")
    if options.allow_other and not _user_allow_other():
        raise UsageError(f"allow_other needs the line user_allow_other in {FUSE_CONF}, which only root can write")


def _user_allow_other() -> bool:
    try:
        return re.search(r"^\s*user_allow_other\s*$", FUSE_CONF.read_text(), re.MULTILINE) is not None
    except OSError:
        return False
