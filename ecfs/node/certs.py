"""A CA for one pool, and certificates for its nodes and its mounting hosts. Files only; nothing listens anywhere.

::

    DIR/ca.crt  DIR/ca.key             the key signs further certificates; it belongs on no node
    DIR/HOST/ca.crt  node.crt  node.key   what the node on HOST needs
    DIR/client/ca.crt  client.crt  client.key   what a mounting host needs
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ecfs.clock import Clock, utc
from ecfs.errors import UsageError

DAY_NS = 86_400 * 1_000_000_000
DAYS = 3650
CA = "ca"
CLIENT = "client"
NODE = "node"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")

Key = ec.EllipticCurvePrivateKey


def make_certs(directory: Path, hosts: Sequence[str], clock: Clock, days: int = DAYS) -> list[Path]:
    """Make what is missing: the CA, a folder per host, one for clients. Returns the folders that were made.

    A CA that is there goes on signing, so that hosts can be added later. Raises UsageError.
    """
    for host in hosts:
        _check_host(host)
    maker = _Maker(directory, clock, days)
    made = [maker.certificate(directory / host, NODE, host) for host in hosts if not (directory / host).exists()]
    if not (directory / CLIENT).exists():
        made.append(maker.certificate(directory / CLIENT, CLIENT, None))
    return made


def _check_host(host: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not _HOST.fullmatch(host) or host == CLIENT:
            raise UsageError(
                f"{host!r} is no host: give names or addresses as they stand in the drives' URLs"
            ) from None


class _Maker:
    def __init__(self, directory: Path, clock: Clock, days: int) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._clock = clock
        self._days = days
        paths = directory / "ca.crt", directory / "ca.key"
        if not any(path.exists() for path in paths):
            self._key, self._ca = self._make_ca()
            _save(paths[0], _pem(self._ca))
            _save(paths[1], _key_pem(self._key))
        self._key, self._ca = _load(*paths)

    def _make_ca(self) -> tuple[Key, x509.Certificate]:
        key = _new_key()
        name = _name(f"ecfs CA {self._clock.token(4).hex()}")
        builder = self._builder(name, name, key).add_extension(x509.BasicConstraints(True, 0), critical=True)
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        return key, builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())

    def certificate(self, folder: Path, kind: str, host: str | None) -> Path:
        """A folder with a new key and its certificate. A node's can't be used as a client's, nor the reverse."""
        key = _new_key()
        builder = self._builder(_name(f"ecfs {kind}" + (f" {host}" if host else "")), self._ca.subject, key)
        builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
        usage = ExtendedKeyUsageOID.SERVER_AUTH if kind == NODE else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if host is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(host)]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        folder.mkdir(mode=0o700)
        _save(folder / "ca.crt", _pem(self._ca))
        _save(folder / f"{kind}.crt", _pem(certificate))
        _save(folder / f"{kind}.key", _key_pem(key))
        return folder

    def _builder(self, subject: x509.Name, issuer: x509.Name, key: Key) -> x509.CertificateBuilder:
        now = self._clock.wall_ns()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(int.from_bytes(self._clock.token(16)) >> 1 or 1)
            .not_valid_before(utc(now - DAY_NS))  # a node whose clock is a little behind must not refuse
            .not_valid_after(utc(now + self._days * DAY_NS))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )


def _new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load(certificate: Path, key: Path) -> tuple[Key, x509.Certificate]:
    try:
        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
        if isinstance(loaded, ec.EllipticCurvePrivateKey):
            return loaded, x509.load_pem_x509_certificate(certificate.read_bytes())
    except OSError as error:
        raise UsageError(
            f"{error.filename} can't be read: {error.strerror}; without it no certificate can be added"
        ) from error
    except ValueError as error:
        raise UsageError(f"{certificate} or {key} is damaged: {error}") from error
    raise UsageError(f"{key} was not made by ecfs certs")


def _save(path: Path, data: bytes) -> None:
    """Mode 0600 from the first moment; never over a file that is there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
