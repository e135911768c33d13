"""Constants of the inode rows that only the file system gives a meaning."""

from __future__ import annotations

HAS_XATTRS = 1
"""Bit of the inode's flags: it has extended attributes. Without it, getxattr answers from the inode alone; the kernel
asks for ``security.capability`` before the first write to each."""
