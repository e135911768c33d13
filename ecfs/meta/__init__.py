"""The metadata database: names, files, stripes, drives; patchsets out, patchsets in. The only importer of apsw.

The database is a cache that can be rebuilt: the durable copy is checkpoint + journal (docs/FORMAT.md). Everything is
synchronous and belongs to one thread; only `Snapshot.copy_to` runs in a worker.
"""

from ecfs.meta.check import check_steps, cross_check
from ecfs.meta.database import Database
from ecfs.meta.schema import SCHEMA_VERSION, schema_hash
from ecfs.meta.snapshot import Snapshot
from ecfs.meta.types import (
    ROOT_INO,
    DriveRow,
    Extent,
    Gap,
    Inode,
    Liveness,
    Outcome,
    StripeCounts,
    StripeFact,
    outcome_from_json,
    outcome_to_json,
)

__all__ = [
    "ROOT_INO",
    "SCHEMA_VERSION",
    "Database",
    "DriveRow",
    "Extent",
    "Gap",
    "Inode",
    "Liveness",
    "Outcome",
    "Snapshot",
    "StripeCounts",
    "StripeFact",
    "check_steps",
    "cross_check",
    "outcome_from_json",
    "outcome_to_json",
    "schema_hash",
]
