"""Where a node listens, and whom it may listen to without asking for a certificate."""

from __future__ import annotations

import ipaddress

from ecfs.errors import UsageError


def parse_listen(text: str) -> tuple[str, int]:
    """(host, port) of HOST:PORT. Raises UsageError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"{text!r} is no address to listen on: give HOST:PORT, such as 127.0.0.1:9001 or 0.0.0.0:9001")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can connect. A name counts only if it is localhost: others may change."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_listen(host: str, *, tls: bool, insecure: bool) -> None:
    """Raises UsageError for a listener that would let in whoever can reach it."""
    if not (is_loopback(host) or tls or insecure):
        raise UsageError(
            f"{host} can be reached from other machines: give certificates with --tls (ecfs certs makes them), or "
            "--insecure if everybody who can connect may read and write every file"
        )


def bind_name(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
