"""The pool file ``pool.toml``: where to look for the drives. The drives themselves say who they are.

Its presence also says that here was a pool: nothing is ever created automatically beside it (R10).
"""

from __future__ import annotations

import difflib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from ecfs.errors import NotAPoolError, UsageError
from ecfs.geometry import Geometry
from ecfs.rpc.tls import TlsFiles

POOL_FILE = "pool.toml"
DEFAULT_DRIVES = 6
_POOL_KEYS = ("id", "data", "parity", "stripe_kib", "min_write_drives")
_DRIVE_KEYS = ("slot", "url")
_TLS_KEYS = ("ca", "cert", "key")
_LIMITS = {"cache_mib": 1, "dirty_mib": 20, "sealed_mib": 8, "journal_mib": 1, "max_commit_s": 1}
"""Each with its least value: with less, a mount could not work at all."""
_ALERT_KEYS = ("on_event", "timeout_s")
_ID = re.compile(r"([0-9a-f]{32})?")
MAX_LIMIT = 1 << 20
MIN_STRIPE_KIB, MAX_STRIPE_KIB = 64, 32 * 1024
"""Smaller ones would be mostly headers; larger ones don't fit into the memory that a mount is allowed."""


@dataclass(frozen=True)
class Alerts:
    """on_event: the command that is run for every event, as arguments; timeout_s: how long it may take."""

    on_event: tuple[str, ...]
    timeout_s: int = 30


@dataclass(frozen=True)
class PoolFile:
    """urls: per slot, as written; relative directories are meant from where the pool file lies, so that a pool can be
    moved as a whole. pool_id: hex, "" before creation."""

    path: Path
    pool_id: str
    k: int
    m: int
    urls: tuple[str, ...]
    stripe_kib: int = 4096
    min_write_drives: int = 0
    """0: k."""
    tls: TlsFiles | None = None
    """Certificates to show to storage nodes; absolute paths."""
    limits: tuple[tuple[str, int], ...] = ()
    """Of the mounting process, as named in the file; what is not named has its default."""
    alerts: Alerts | None = None

    @property
    def geometry(self) -> Geometry:
        return Geometry(1, self.k, self.m)


def default_pool_file(directory: Path, k: int, m: int, stripe_kib: int = 4096) -> PoolFile:
    return PoolFile(directory / POOL_FILE, "", k, m, tuple(f"d{slot}" for slot in range(k + m)), stripe_kib)


def find_pool_file(pool: Path) -> Path:
    """The pool file meant by POOL: a directory that has one, or the file itself. Raises NotAPoolError."""
    path = pool / POOL_FILE if pool.is_dir() else pool
    if path.is_file():
        return path
    if pool.is_dir():
        raise NotAPoolError(f"{pool} is not a pool (it has no {POOL_FILE}): make one with: ecfs create {pool}")
    raise NotAPoolError(f"{pool} does not exist: make a pool with: ecfs create {pool}")


def _check_keys(table: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise UsageError(f"{where}: unknown key {key!r}; {hint}")


def _number(table: dict[str, Any], key: str, default: int | None, where: str) -> int:
    value = table.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UsageError(f"{where}: {key} must be a whole number, not {value!r}")
    return value


def read_pool_file(path: Path) -> PoolFile:
    """Parse and check. Raises UsageError naming what is wrong and where."""
    try:
        document = tomlkit.parse(path.read_text()).unwrap()
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}") from error
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from error
    where = str(path)
    _check_keys(document, ("pool", "drive", "tls", "limits", "alerts"), where)
    pool, drives = document.get("pool"), document.get("drive")
    if not isinstance(pool, dict) or not isinstance(drives, list):
        raise UsageError(f"{where}: needs a [pool] table and one [[drive]] per slot")
    _check_keys(pool, _POOL_KEYS, f"{where} [pool]")
    k, m = _number(pool, "data", 4, where), _number(pool, "parity", 2, where)
    Geometry(1, k, m)
    stripe_kib, least = _number(pool, "stripe_kib", 4096, where), _number(pool, "min_write_drives", 0, where)
    if not MIN_STRIPE_KIB <= stripe_kib <= MAX_STRIPE_KIB:
        raise UsageError(f"{where}: stripe_kib must be between {MIN_STRIPE_KIB} and {MAX_STRIPE_KIB}, not {stripe_kib}")
    if least > k + m:
        raise UsageError(f"{where}: min_write_drives = {least}, but there are only {k + m} drives")
    tls = _tls(document["tls"], path) if "tls" in document else None
    limits = _limits(document.get("limits", {}), f"{where} [limits]")
    alerts = _alerts(document["alerts"], f"{where} [alerts]") if "alerts" in document else None
    urls = _urls(drives, k + m, where)
    return PoolFile(path, _id(pool, where), k, m, urls, stripe_kib, least, tls, limits, alerts)


def _limits(table: object, where: str) -> tuple[tuple[str, int], ...]:
    if not isinstance(table, dict):
        raise UsageError(f"{where} must be a table with some of {', '.join(_LIMITS)}")
    _check_keys(table, tuple(_LIMITS), where)
    found = {key: _number(table, key, None, where) for key in table}
    for key, value in found.items():
        if not _LIMITS[key] <= value <= MAX_LIMIT:
            raise UsageError(f"{where}: {key} must be between {_LIMITS[key]} and {MAX_LIMIT}, not {value}")
    return tuple(found.items())


def _alerts(table: object, where: str) -> Alerts:
    if not isinstance(table, dict):
        raise UsageError(f"{where} must be a table with {', '.join(_ALERT_KEYS)}")
    _check_keys(table, _ALERT_KEYS, where)
    command = table.get("on_event")
    try:
        words = shlex.split(command) if isinstance(command, str) else command
    except ValueError as error:
        raise UsageError(f"{where}: on_event: {error}") from error
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word for word in words):
        raise UsageError(f'{where}: on_event must be a command, such as "/usr/local/sbin/tell-me" or ["mail", "root"]')
    if not words[0].startswith("/"):
        raise UsageError(f"{where}: on_event must name its program from / on, not {words[0]!r}: it runs in the daemon")
    timeout_s = _number(table, "timeout_s", 30, where)
    if not 1 <= timeout_s <= 600:
        raise UsageError(f"{where}: timeout_s must be between 1 and 600, not {timeout_s}")
    return Alerts(tuple(words), timeout_s)


def _tls(table: object, path: Path) -> TlsFiles:
    where = f"{path} [tls]"
    if not isinstance(table, dict):
        raise UsageError(f"{where} must be a table with {', '.join(_TLS_KEYS)}")
    _check_keys(table, _TLS_KEYS, where)
    for key in _TLS_KEYS:
        if not isinstance(table.get(key), str) or not table[key]:
            raise UsageError(f"{where}: {key} must name a file (ecfs certs makes them)")
    base = path.resolve().parent
    return TlsFiles(*(str(base / table[key]) for key in _TLS_KEYS))


def _id(pool: dict[str, Any], where: str) -> str:
    pool_id = pool.get("id", "")
    if not isinstance(pool_id, str) or not _ID.fullmatch(pool_id):
        raise UsageError(f"{where}: id must be the 32 hex digits that ecfs wrote there, not {pool_id!r}")
    return pool_id


def _urls(drives: list[Any], n: int, where: str) -> tuple[str, ...]:
    urls: dict[int, str] = {}
    for position, drive in enumerate(drives):
        if not isinstance(drive, dict):
            raise UsageError(f"{where}: each [[drive]] must be a table")
        _check_keys(drive, _DRIVE_KEYS, f"{where} [[drive]]")
        slot, url = _number(drive, "slot", position, where), drive.get("url")
        if not isinstance(url, str) or not url:
            raise UsageError(f"{where}: drive {slot} needs a url")
        if slot in urls or url in urls.values():
            raise UsageError(f"{where}: drive {slot} ({url}) is listed twice")
        urls[slot] = url
    if sorted(urls) != list(range(n)):
        raise UsageError(f"{where}: needs drives with slots 0 to {n - 1} for data + parity = {n}, has {sorted(urls)}")
    return tuple(urls[slot] for slot in range(n))


def render_pool_file(file: PoolFile) -> str:
    """The text that `read_pool_file` reads back as the same pool."""
    document = tomlkit.document()
    document.add(tomlkit.comment("An ecfs pool. The drives know who they are; this file says where to look for them."))
    document.add(tomlkit.comment("Never delete it to 'start afresh': its presence protects the drives."))
    pool = tomlkit.table()
    pool.update({"id": file.pool_id, "data": file.k, "parity": file.m, "stripe_kib": file.stripe_kib})
    if file.min_write_drives:
        pool["min_write_drives"] = file.min_write_drives
    drives = tomlkit.aot()
    for slot, url in enumerate(file.urls):
        row = tomlkit.table()
        row.update({"slot": slot, "url": url})
        drives.append(row)
    document.add("pool", pool)
    if file.tls is not None:
        tls = tomlkit.table()
        tls.update({key: getattr(file.tls, key) for key in _TLS_KEYS})
        document.add("tls", tls)
    if file.limits:
        document.add("limits", tomlkit.item(dict(file.limits)))
    if file.alerts is not None:
        alerts = tomlkit.table()
        alerts.update({"on_event": list(file.alerts.on_event), "timeout_s": file.alerts.timeout_s})
        document.add("alerts", alerts)
    document.add("drive", drives)
    return tomlkit.dumps(document)


def with_pool_id(text: str, pool_id: str) -> str:
    """A pool file that a person wrote, with the id filled in and everything else, comments too, as it was."""
    document = tomlkit.parse(text)
    document["pool"]["id"] = pool_id
    return tomlkit.dumps(document)


def with_url(text: str, old: str, new: str) -> str:
    """A pool file in which another place takes the place of one, as written; all else as it was.

    Raises UsageError if `old` is not listed.
    """
    document = tomlkit.parse(text)
    for drive in document["drive"]:
        if drive["url"] == old:
            drive["url"] = new
            return tomlkit.dumps(document)
    raise UsageError(f"{POOL_FILE} does not list {old}: put {new} there by hand")
