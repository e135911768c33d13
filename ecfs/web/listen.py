"""Where the status page listens, and what it asks of whoever connects. Needs none of the web libraries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ecfs.errors import UsageError
from ecfs.node.listen import bind_name, is_loopback, parse_listen

MIN_TOKEN = 16
"""Characters; whoever may try all shorter ones would be in some day."""
EXAMPLE = "127.0.0.1:8630"


@dataclass(frozen=True)
class Listen:
    """token: what a viewer must show; "" where none is asked, which is on loopback only."""

    host: str
    port: int
    token: str = ""

    @property
    def name(self) -> str:
        return bind_name(self.host, self.port)


def plan_listen(text: str, token_file: str) -> Listen:
    """From ``HOST:PORT`` and the name of a file, "" for none. Raises UsageError."""
    host, port = parse_listen(text)
    token = read_token(Path(token_file)) if token_file else ""
    if not token and not is_loopback(host):
        raise UsageError(
            f"{text} can be reached from other machines: give a token with --web-token-file, or listen on {EXAMPLE} "
            f"and look from elsewhere through ssh -L {port}:127.0.0.1:{port}"
        )
    return Listen(host, port, token)


def read_token(path: Path) -> str:
    """The file's one line. Raises UsageError if others can read it, or it is too easily guessed."""
    make = f"make one with: (umask 077; openssl rand -hex 24 > {path})"
    try:
        mode, text = path.stat().st_mode, path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: the token can't be read ({error}); {make}") from error
    if mode & 0o077:
        raise UsageError(f"{path} can be read by other users: chmod 600 {path}")
    if len(text) < MIN_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
        raise UsageError(f"{path}: a token is one line of at least {MIN_TOKEN} letters and digits; {make}")
    return text
