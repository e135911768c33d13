"""Applies an outcome section to the outcome tables. Doing it twice is doing it once (R4)."""

from __future__ import annotations

import msgspec

from ecfs.errors import CorruptError
from ecfs.geometry import Geometry
from ecfs.meta.drives import DEFAULT_CODE
from ecfs.meta.ledger import Ledger
from ecfs.meta.store import Store
from ecfs.meta.types import DriveRow, Outcome, check_outcome


def apply_outcome(store: Store, ledger: Ledger, outcome: Outcome) -> None:
    """Changes the tables to what a record says of drives and shards. Raises CorruptError for impossible values."""
    check_outcome(outcome)
    for geometry in outcome.geometries:
        store.run("INSERT OR REPLACE INTO geometry VALUES (?, ?, ?, ?)", *geometry)
    used = {row[1] for row in outcome.stripes}
    if used and (unknown := used - {number for (number,) in store.all("SELECT id FROM geometry")}):
        raise CorruptError(f"outcome section: stripes of geometries that nobody defined: {sorted(unknown)}")
    ledger.change(outcome.stripes, outcome.removed, outcome.missing, outcome.present)
    for slot, ranges in outcome.gaps.items():
        ledger.set_gaps(slot, ranges)
    for drive in outcome.drives:
        _put_drive(store, drive)
    _apply_history(store, outcome)
    _apply_settings(store, outcome)


def put_geometry(store: Store, geometry: Geometry) -> None:
    """The first geometry, which a database has from its making."""
    store.run("INSERT INTO geometry VALUES (?, ?, ?, ?)", geometry.id, geometry.k, geometry.m, DEFAULT_CODE)


def _put_drive(store: Store, drive: DriveRow) -> None:
    location = msgspec.json.encode(drive.location, order="sorted").decode()
    store.run(
        "INSERT OR REPLACE INTO drive VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        drive.slot, drive.drive_id, drive.url, drive.state, int(drive.in_w), location,
        drive.confirmed_epoch, drive.confirmed_seq, drive.reason, drive.since_ns,
    )  # fmt: skip


def _apply_history(store: Store, outcome: Outcome) -> None:
    if outcome.epoch is not None:
        store.run("INSERT OR REPLACE INTO epoch VALUES (?, ?, ?)", *outcome.epoch)
    for drive_id, slot in outcome.retired:
        # The epoch is the newest the pool has had: the one in which the drive left.
        store.run(
            "INSERT OR IGNORE INTO retired VALUES (?, ?, coalesce((SELECT max(epoch) FROM epoch), 0))", drive_id, slot
        )


def _apply_settings(store: Store, outcome: Outcome) -> None:
    for name, value in outcome.settings.items():
        if value is None:
            store.run("DELETE FROM setting WHERE name = ?", name)
        else:
            encoded = msgspec.json.encode(value, order="sorted").decode()
            store.run("INSERT OR REPLACE INTO setting VALUES (?, ?)", name, encoded)
    for slot, keys in (outcome.orphan_shards or {}).items():
        store.run("DELETE FROM orphan_shard WHERE slot = ?", slot)
        for key in dict.fromkeys(keys):
            store.run("INSERT INTO orphan_shard VALUES (?, ?)", slot, key)
