"""What `verify` means, the same for every drive that has the bytes at hand."""

from __future__ import annotations

from ecfs.errors import CorruptError, ShardCorruptError
from ecfs.shard import Buffer, ShardHeader, parse_key, verify_shard


def check_whole_shard(key: str, data: Buffer) -> ShardHeader:
    """The header of a shard whose every byte is right and that is the one its key names.

    Raises ShardCorruptError. A shard of a newer format raises FormatTooNewError: it is not damaged, and nobody may
    "repair" it away.
    """
    try:
        header = verify_shard(data)
        named = parse_key(key)
    except CorruptError as error:
        raise ShardCorruptError(str(error), key=key) from error
    if (header.space, header.stripe_id) != named:
        raise ShardCorruptError(f"is the shard of stripe {header.space}/{header.stripe_id:016x}", key=key)
    return header
