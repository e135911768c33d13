"""Which certificates to use. Apart from `credentials`, so that a pool file can name them without gRPC being loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ecfs.errors import UsageError


@dataclass(frozen=True)
class TlsFiles:
    """Paths of PEM files: the CA's certificate, our certificate, our key."""

    ca: str
    cert: str
    key: str

    def read(self) -> tuple[bytes, bytes, bytes]:
        """Raises UsageError naming the file that can't be read or is none."""
        return _read(self.ca, b"CERTIFICATE"), _read(self.cert, b"CERTIFICATE"), _read(self.key, b"PRIVATE KEY")


def node_files(folder: Path) -> TlsFiles:
    """What `ecfs certs` made for a node."""
    return _files(folder, "node")


def client_files(folder: Path) -> TlsFiles:
    """What `ecfs certs` made for hosts that mount."""
    return _files(folder, "client")


def _files(folder: Path, name: str) -> TlsFiles:
    absolute = folder.absolute()
    return TlsFiles(str(absolute / "ca.crt"), str(absolute / f"{name}.crt"), str(absolute / f"{name}.key"))


def _read(path: str, kind: bytes) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror} (ecfs certs makes such files)") from error
    if b"-----BEGIN " not in data or kind not in data:
        raise UsageError(f"{path} holds no {kind.decode().lower()} in PEM form (ecfs certs makes such files)")
    return data
