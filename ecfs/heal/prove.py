"""Whether one stripe would survive the loss of any m drives: shown, not inferred.

Every shard is read whole and verified, and the payload is encoded again. If that gives every stored shard byte for
byte, the stripe is a word of the code: `codec.self_test` has shown that any k fragments of a word give back all, so
every set of m losses is covered. `decode` does it the long way: each set of m shards computed from the other k.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import trio

from ecfs.codec import Codec
from ecfs.errors import DriveError, EcfsError, FormatTooNewError, ShardCorruptError
from ecfs.geometry import FRAGMENT_HEADER
from ecfs.stripes.access import DriveAccess
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.fetch import Source
from ecfs.stripes.writer import EncodedStripe, encode_stripe


@dataclass
class Proof:
    """What is known of one stripe. good: index → its data. bad: slot → why its shard does not count.

    wrong: slots whose shard is sound in itself but not what `encoded` says. encoded: the stripe made again, if the
    data shards are all there. decoded: sets of losses that were tried.
    """

    fact: StripeFact
    good: dict[int, memoryview] = field(default_factory=dict)
    bad: dict[int, EcfsError] = field(default_factory=dict)
    wrong: dict[int, EcfsError] = field(default_factory=dict)
    encoded: EncodedStripe | None = None
    decoded: int = 0

    @property
    def whole(self) -> bool:
        """Any m drives may go."""
        return len(self.good) == self.fact.geometry.n and self.encoded is not None and not self.wrong


async def prove(fact: StripeFact, access: DriveAccess, pool_id: bytes) -> Proof:
    """Read and encode again. Needs memory for 2n shards. Never raises for what is wrong with a shard or a drive."""
    proof = Proof(fact)
    async with trio.open_nursery() as nursery:
        for index in range(fact.geometry.n):
            nursery.start_soon(_fetch, proof, access, pool_id, index)
    if all(index in proof.good for index in range(fact.geometry.k)):
        _encode(proof, pool_id)
    return proof


async def _fetch(proof: Proof, access: DriveAccess, pool_id: bytes, index: int) -> None:
    fact = proof.fact
    slot = fact.slot_of(index)
    drive = access.readable(slot)
    if drive is None:
        proof.bad[slot] = DriveError("the drive can't be read now", slot=slot)
        return
    try:
        _, fragment = await Source(drive, fact, pool_id, slot).whole()
        proof.good[index] = memoryview(fragment)[FRAGMENT_HEADER:]
    except (DriveError, FormatTooNewError) as error:
        proof.bad[slot] = error


def _encode(proof: Proof, pool_id: bytes) -> None:
    """Compare what is stored with what the data shards make."""
    fact, geometry = proof.fact, proof.fact.geometry
    payload = b"".join(proof.good[index] for index in range(geometry.k))[: fact.length]
    encoded = encode_stripe(pool_id, fact.id, fact.space, geometry, payload)
    if encoded.fact != fact:
        slots = {fact.slot_of(index) for index in range(geometry.k)}
        proof.wrong = {slot: _contradiction(fact, slot) for slot in slots}
        return
    proof.encoded = encoded
    for index, data in proof.good.items():
        # As bytes: memoryviews are compared item by item, thirty times as long.
        if bytes(data) != bytes(encoded.fragments[index].data):
            slot = fact.slot_of(index)
            proof.wrong[slot] = _contradiction(fact, slot)


def _contradiction(fact: StripeFact, slot: int) -> ShardCorruptError:
    return ShardCorruptError("contradicts the stripe's content hash", slot=slot, key=fact.key)


async def decode(proof: Proof) -> None:
    """Lose every set of m shards of a whole stripe in turn and compute them from the other k."""
    fact, geometry = proof.fact, proof.fact.geometry
    codec = Codec(geometry.k, geometry.m)
    for away in itertools.combinations(range(geometry.n), geometry.m):
        await trio.lowlevel.checkpoint()  # each takes a millisecond or more of everybody's time
        kept = {index: data for index, data in proof.good.items() if index not in away}
        rebuilt = codec.rebuild(kept, fact.fragment_length, away)
        for index in away:
            if rebuilt[index] != proof.good[index]:
                slot = fact.slot_of(index)
                text = f"the erasure code can't rebuild it without drives {[fact.slot_of(i) for i in away]}"
                proof.wrong[slot] = ShardCorruptError(text, slot=slot, key=fact.key)
        proof.decoded += 1
