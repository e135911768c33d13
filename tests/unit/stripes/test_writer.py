"""From payload to shards."""

from __future__ import annotations

import pytest

from ecfs.errors import ShardExistsError
from ecfs.shard import DATA_OFFSET, content_hash, verify_shard
from ecfs.stripes.writer import put_shard
from tests.unit.stripes.fakes import POOL_ID, Pool, payload_of

SIZES = [1, 2, 3, 4, 5, 65536, 262145, 1 << 20, 4 << 20]


@pytest.mark.parametrize(("k", "m"), [(2, 1), (4, 2), (8, 3)])
@pytest.mark.parametrize("length", SIZES)
def test_every_shard_is_sound_and_fits_to_the_row(k, m, length):
    payload = payload_of(length)
    encoded = Pool(k, m).encode(payload)
    shards = [b"".join(encoded.buffers(index)) for index in range(k + m)]
    headers = [verify_shard(shard) for shard in shards]
    for index, header in enumerate(headers):
        encoded.fact.check_header(header, POOL_ID, index)
        assert len(shards[index]) == DATA_OFFSET + encoded.fact.fragment_length
    crcs = [header.block_crcs for header in headers[:k]]
    assert encoded.fact.content_hash == content_hash(length, k, crcs)
    assert b"".join(shard[DATA_OFFSET:] for shard in shards[:k])[:length] == payload


def test_other_content_and_other_length_have_other_hashes():
    pool = Pool()
    hashes = {pool.encode(payload).fact.content_hash for payload in (b"a", b"b", b"a\0", b"a\0\0", b"\0a")}
    assert len(hashes) == 5


async def test_put_shard_stores_what_belongs_on_the_slot():
    pool = Pool()
    fact = await pool.store(payload_of(1000), counter=3)
    for slot in range(6):
        header = verify_shard(pool.drives[slot].shards[fact.key])
        assert header.index == (slot - 3) % 6
    with pytest.raises(ShardExistsError):
        await put_shard(pool.drive(0), pool.encode(b"other", counter=3), 0)
