"""What lies at each place? Pure judgement of identities, apart from the look itself (R7, R10, R11).

Only a *member* counts for anything. Everything else is named with the reason, and left alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace

from ecfs.drive.base import Drive
from ecfs.errors import (
    CorruptError,
    DriveError,
    DriveLockedError,
    DriveWrongError,
    PoolLockedError,
    ShardCorruptError,
    ShardMissingError,
)
from ecfs.pool.identity import JOINING, Identity, decode_identity

PARTLY_DELETED = "partly deleted"


@dataclass(frozen=True)
class Sight:
    """One place as seen now. state: "member", "joining", "absent" or "wrong"."""

    drive: Drive
    state: str
    reason: str = ""
    identity: Identity | None = None

    @property
    def is_member(self) -> bool:
        return self.state == "member"


async def look(drive: Drive, *, exclusive: bool) -> Sight:
    """Attach and read the identity. Raises PoolLockedError and FormatTooNewError; all else is a verdict."""
    try:
        await drive.attach(exclusive=exclusive)
    except DriveLockedError as error:
        text = str(error.args[0])
        raise PoolLockedError(text if drive.url in text else f"{drive.url}: {text}") from error
    except DriveWrongError as error:
        return Sight(drive, "wrong", str(error.args[0]))
    except DriveError as error:
        return Sight(drive, "absent", str(error.args[0]))
    return await _read(drive)


async def _read(drive: Drive) -> Sight:
    try:
        identity = decode_identity(await drive.read_blob("identity"))
    except ShardMissingError:
        return await _without_identity(drive)
    except (CorruptError, ShardCorruptError) as error:
        return Sight(drive, "wrong", f"identity damaged ({error})")
    except DriveError as error:
        return Sight(drive, "absent", str(error.args[0]))
    if gone := await _gone(drive):
        return Sight(drive, "wrong", f"{PARTLY_DELETED}: {gone} is gone", identity)
    if identity.state == JOINING:
        return Sight(drive, "joining", "was being added when the pool stopped", identity)
    return Sight(drive, "member", "", identity)


async def _gone(drive: Drive) -> str:
    """What of a drive's frame was deleted although its identity is there: then its shards are gone, too."""
    for prefix in ("s/", "c/", "j/"):
        try:
            async with aclosing(drive.list(prefix)) as entries:
                await anext(entries, None)
        except DriveError:
            return prefix
    return ""


async def _without_identity(drive: Drive) -> Sight:
    try:
        vacant = await drive.is_vacant()
    except DriveError as error:
        return Sight(drive, "absent", str(error.args[0]))
    if vacant:
        return Sight(drive, "absent", "empty: is its disk mounted?")
    return Sight(drive, "wrong", "partly deleted, or not a drive: it has files but no identity")


def pool_of(sights: Iterable[Sight]) -> str | None:
    """The pool id that most members name; None if there is no member. For when no pool file says it."""
    named = Counter(sight.identity.pool_id for sight in sights if sight.identity is not None)
    return named.most_common(1)[0][0] if named else None


def judge(sights: list[Sight], pool_id: str, n: int) -> list[Sight]:
    """Turn away drives of another pool, of an impossible slot, and both of two with one id."""
    ids = Counter(s.identity.drive_id for s in sights if s.identity is not None)
    return [_judge_one(sight, pool_id, n, ids) for sight in sights]


def _judge_one(sight: Sight, pool_id: str, n: int, ids: Counter[str]) -> Sight:
    identity = sight.identity
    if identity is None:
        return sight
    if identity.pool_id != pool_id:
        return replace(sight, state="wrong", reason=f"belongs to another pool ({identity.pool_id[:8]})")
    if not 0 <= identity.slot < n:
        return replace(sight, state="wrong", reason=f"says it is drive {identity.slot} of {n}")
    if ids[identity.drive_id] > 1:
        # Which of the two is the stale copy can't be told from here: using either could undo history (R11).
        return replace(sight, state="wrong", reason="two drives have this identity: one is a copy; take it away")
    return sight


def rivals(sights: list[Sight]) -> list[Sight]:
    """Members that name the same slot: a drive and those that it replaced."""
    claims = Counter(sight.identity.slot for sight in sights if sight.is_member and sight.identity is not None)
    return [s for s in sights if s.is_member and s.identity is not None and claims[s.identity.slot] > 1]


def by_slot(sights: list[Sight], written: Mapping[str, tuple[int, int]]) -> dict[int, Sight]:
    """The member for each slot; of two different drives for one slot the one with the newer epoch, or, if they were
    exchanged since the last opening, with the newer superblock. written: (epoch, seq) of rivals' superblocks, by URL. A
    drive that was replaced gets none any more, and its successor one with which it is called member."""
    chosen: dict[int, Sight] = {}
    for sight in sights:
        if sight.is_member and sight.identity is not None:
            other = chosen.get(sight.identity.slot)
            if other is None or _age(other, written) < _age(sight, written):
                chosen[sight.identity.slot] = sight
    return chosen


def _age(sight: Sight, written: Mapping[str, tuple[int, int]]) -> tuple[int, tuple[int, int]]:
    return (sight.identity.epoch if sight.identity is not None else 0, written.get(sight.drive.url, (0, 0)))
