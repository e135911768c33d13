"""Telling systemd how a service is: one datagram to $NOTIFY_SOCKET. Elsewhere nothing happens."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

import trio


def notify(text: str) -> None:
    """Send lines such as "READY=1". A service manager that does not listen must not end the service."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    where = "\0" + address[1:] if address.startswith("@") else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        sender.sendto(text.encode(), where)


async def keep_watchdog() -> None:
    """As long as the event loop turns, say so at twice the pace that systemd asks for (WatchdogSec=)."""
    microseconds, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or pid not in ("", str(os.getpid())):
        return
    while True:
        notify("WATCHDOG=1")
        await trio.sleep(int(microseconds) / 2e6)
