"""Drives, geometries, epochs and settings as the last outcome left them."""

from __future__ import annotations

from typing import Any

import msgspec

from ecfs.errors import CorruptError
from ecfs.geometry import COUNTER_BITS, Geometry
from ecfs.meta.store import Row, Store
from ecfs.meta.types import DriveRow

DEFAULT_CODE = "isa_l_rs_cauchy"
_COLUMNS = ", ".join(DriveRow.__struct_fields__)


class Drives:
    """Few rows, read where needed; changed by outcomes only."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def rows(self) -> list[DriveRow]:
        """All drives by slot."""
        return [_drive(row) for row in self._store.all(f"SELECT {_COLUMNS} FROM drive ORDER BY slot")]

    def row(self, slot: int) -> DriveRow | None:
        row = self._store.one(f"SELECT {_COLUMNS} FROM drive WHERE slot = ?", slot)
        return None if row is None else _drive(row)

    def is_retired(self, drive_id: str) -> bool:
        """Whether this id once belonged to the pool and never may again (R7)."""
        return self._store.one("SELECT 1 FROM retired WHERE drive_id = ?", drive_id) is not None

    def geometry(self) -> Geometry:
        """The one for new stripes: the newest."""
        return max(self.geometries().values(), key=lambda geometry: geometry.id)

    def geometries(self) -> dict[int, Geometry]:
        """All that stripes may name, by id."""
        rows = self._store.all("SELECT id, k, m FROM geometry")
        if not rows:
            raise CorruptError("the metadata database names no geometry")
        return {number: Geometry(number, k, m) for number, k, m in rows}

    def code(self, geometry: int) -> str | None:
        """Name of the erasure code of a geometry."""
        name: str | None = self._store.value("SELECT code FROM geometry WHERE id = ?", geometry)
        return name

    def epoch_nonce(self, epoch: int) -> str | None:
        """Who opened the pool in an epoch; None if the pool's history has no such epoch (R11)."""
        nonce: str | None = self._store.value("SELECT nonce FROM epoch WHERE epoch = ?", epoch)
        return nonce

    def epochs(self) -> list[tuple[int, str, int]]:
        """(epoch, nonce, first sequence) of all epochs, ascending."""
        return self._store.all("SELECT epoch, nonce, first_seq FROM epoch ORDER BY epoch")

    def epochs_with_stripes(self) -> list[int]:
        """Epochs that committed stripes are of, ascending. One index step per epoch, no scan."""
        found: list[int] = []
        first = self._store.value("SELECT min(id) FROM stripe")
        while first is not None:
            found.append(first >> COUNTER_BITS)
            beyond = (found[-1] + 1) << COUNTER_BITS
            first = self._store.value("SELECT min(id) FROM stripe WHERE id >= ?", beyond)
        return found

    def setting(self, name: str) -> Any:
        """A pool setting as stored, None if it was never set."""
        value = self._store.value("SELECT value FROM setting WHERE name = ?", name)
        return None if value is None else msgspec.json.decode(value)

    def settings(self) -> dict[str, Any]:
        rows = self._store.all("SELECT name, value FROM setting ORDER BY name")
        return {name: msgspec.json.decode(value) for name, value in rows}

    def settings_like(self, prefix: str) -> list[tuple[str, Any]]:
        """Settings whose names begin with `prefix`, which must be plain letters, by name."""
        rows = self._store.all("SELECT name, value FROM setting WHERE name GLOB ? ORDER BY name", f"{prefix}*")
        return [(name, msgspec.json.decode(value)) for name, value in rows]

    def orphan_shards(self, slot: int) -> list[str]:
        """Keys on a slot that a finished scrub found to belong to nothing (R12)."""
        return [key for (key,) in self._store.all("SELECT key FROM orphan_shard WHERE slot = ? ORDER BY key", slot)]


def _drive(row: Row) -> DriveRow:
    slot, drive_id, url, state, in_w, location, *rest = row
    return DriveRow(slot, drive_id, url, state, bool(in_w), msgspec.json.decode(location), *rest)
